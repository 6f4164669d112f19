"""What no line of the program may do, wherever a file of somebody else's comes in."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("nemo/**/*.py"), *ROOT.glob("examples/**/*.py")])

PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "compile": "runs text as code",
    "__import__": "takes names of code from elsewhere",
    "os.system": "goes through a shell",
    "os.popen": "goes through a shell",
    "yaml.load": "makes objects; use yaml.safe_load",
    "yaml.unsafe_load": "makes objects; use yaml.safe_load",
    "yaml.full_load": "makes objects; use yaml.safe_load",
    "torch.save": "writes a pickle",
    "torch.distributed.checkpoint.load": "reads pickles",
}
OBJECT_COLLECTIVES = {
    "all_gather_object",
    "gather_object",
    "broadcast_object_list",
    "scatter_object_list",
    "send_object_list",
    "recv_object_list",
}
# A place, a rule, and why the one may do what the other forbids.
EXCEPTIONS = {
    (
        "nemo/backends/pytorch/export/deployment.py",
        "torch.save",
    ): "the export format that is one, of tensors alone",
    ("nemo/cli/main.py", "except"): "the last resort: one line instead of a traceback, and exit code 1",
    ("nemo/collections/nlp/data/tokenizers/crash_test.py", "except"): "told to the process that waits",
    ("nemo/collections/nlp/data/samples/prefetch.py", "except"): "raised again in the thread that waits",
    ("nemo/collections/nlp/preparation/engines.py", "except"): "told to the process that waits",
}


def problems(path: Path, source: str) -> list[str]:
    """The lines of a source that break a rule."""
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def full_name(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full_name(node.value)}.{node.attr}"
        return names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    found = []

    def tell(node: ast.AST, rule: str, why: str) -> None:
        if (path.relative_to(ROOT).as_posix(), rule) not in EXCEPTIONS:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {rule}: {why}")

    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or full_name(node.type) in ("Exception", "BaseException")
            if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                tell(node, "except", "swallows what nobody has thought of")
        if isinstance(getattr(node, "ctx", None), ast.Load):  # be it called here, or handed to who calls it
            name = full_name(node)
            if name in FORBIDDEN:
                tell(node, name, FORBIDDEN[name])
            if name.split(".")[0] in PICKLES and "." in name and "Error" not in name:
                tell(node, name, "a pickle runs code when it is read")
        if not isinstance(node, ast.Call):
            continue
        name = full_name(node.func)
        words = {word.arg: word.value for word in node.keywords}
        if name.split(".")[-1] in OBJECT_COLLECTIVES:
            tell(node, name, "unpickles what another process sent")
        if name.split(".")[-1] == "extractall":
            tell(node, "extractall", "writes where the archive says")
        if name == "torch.load" and not is_true(words.get("weights_only")):
            tell(node, name, "must say weights_only=True")
        if name in ("numpy.load", "numpy.lib.format.read_array") and "allow_pickle" in words:
            tell(node, name, "must not unpickle")
        if name.endswith("suppress") and any(
            full_name(a) in ("Exception", "BaseException") for a in node.args
        ):
            tell(node, "suppress", "swallows what nobody has thought of")
        for word, why in (
            ("shell", "goes through a shell"),
            ("trust_remote_code", "runs a model's own code"),
        ):
            if word in words and not is_false(words[word]):
                tell(node, word, why)
    return found


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_no_line_breaks_a_rule():
    assert len(FILES) > 150
    assert [told for path in FILES for told in problems(path, path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("place", EXCEPTIONS, ids="-".join)
def test_exceptions_are_needed(place, monkeypatch):
    path = ROOT / place[0]
    monkeypatch.delitem(EXCEPTIONS, place)
    assert problems(path, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.loads(data)",
        "from pickle import Unpickler as U; U(file)",
        "import torch; torch.load(file)",
        "import torch; torch.load(file, weights_only=False)",
        "from torch import load; load(file)",
        "import torch as t; t.save(x, file)",
        "import yaml; yaml.load(text)",
        "eval(text)",
        "import subprocess; subprocess.run(text, shell=True)",
        "import os; os.system(text)",
        "import tarfile; tarfile.open(name).extractall(folder)",
        "import torch.distributed as dist; dist.all_gather_object(all, mine)",
        "import numpy as np; np.load(file, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept Exception as e:\n    print(e)",
        "import contextlib\nwith contextlib.suppress(Exception):\n    f()",
    ],
)
def test_the_rules_detect_what_they_forbid(line):
    assert len(problems(ROOT / "nemo/x.py", line)) == 1
