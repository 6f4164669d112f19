"""What our documents say of files and of each other is so, and CONTRIBUTING's examples work."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.utils.errors import DataError
from tests.documents import ROOT, blocks, commands, run_python

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for folder in (ROOT, ROOT / "docs", ROOT / "benchmarks")
    for path in folder.glob("*.md" if folder == ROOT else "**/*.md")
)
OUR_FOLDERS = ("nemo", "tests", "docs", "examples", "benchmarks")


def prose(document: str) -> str:
    """A document without its blocks of code."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: str) -> set[str]:
    """The headings of a document, as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors(str(target.resolve().relative_to(ROOT))), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_documents_exist(document):
    named = re.findall(rf"`((?:{'|'.join(OUR_FOLDERS)})/[\w./-]+)`", prose(document))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_files_named_in_the_architecture_exist():
    short = re.findall(r"`(\w+\.py)`", prose("docs/architecture.md"))
    assert short
    assert [name for name in short if not list((ROOT / "nemo").rglob(name))] == []


def test_the_architecture_has_every_folder_in_its_tables_once():
    text = prose("docs/architecture.md")
    tables = text[text.index("## The layers") : text.index("## The life of a batch")]
    rows = re.findall(r"^\|[^`]*`(nemo/[\w/]+)/` \|", tables, re.MULTILINE)
    folders = {file.parent.relative_to(ROOT) for file in (ROOT / "nemo").rglob("*.py")} - {Path("nemo")}
    assert sorted(rows) == sorted(map(str, folders))


def test_the_commands_of_contributing_are_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for make, target in commands("CONTRIBUTING.md"):
        assert make == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


@pytest.fixture(scope="module")
def contributing(tmp_path_factory) -> dict[str, Any]:
    """What the examples of CONTRIBUTING.md define, after they have trained on some reviews; and their log."""
    folder = tmp_path_factory.mktemp("contributing")
    praise, blame = ("A film that everyone will like", "Nobody wants to see it twice")
    lines = [f"{i % 2}\t{praise if i % 2 else blame}, says number {i}.\n" for i in range(80)]
    (folder / "reviews.tsv").write_text("".join(lines), encoding="utf-8")
    defined: dict[str, Any] = {}
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as log:
        run_python(blocks("CONTRIBUTING.md", "python"), defined)
    return {**defined, "log": log.getvalue()}


def test_the_examples_of_contributing_work_together(contributing):
    losses = [float(loss) for loss in re.findall(r"FocalLoss/loss: ([\d.]+)", contributing["log"])]
    assert losses[-1] < losses[0] / 4


def test_the_tokenizer_of_contributing_is_found_again(contributing, tmp_path):
    tokenizer = contributing["tokenizer"]
    assert tokenizer.text_to_tokens("a [MASK] film") == ["a", "[MASK]", *"film"]
    assert tokenizer.starts_word.all()
    tokenizer.save(tmp_path)
    assert load_tokenizer(str(tmp_path)).fingerprint == tokenizer.fingerprint


def test_the_data_layer_of_contributing_says_which_line_is_wrong(contributing, tmp_path):
    (tmp_path / "reviews.tsv").write_text("1\tgood\nbad\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"reviews.tsv:2: not a labeled line; found 'bad'"):
        contributing["LabeledLines"](contributing["tokenizer"], str(tmp_path / "reviews.tsv"))


@pytest.fixture
def patched(tmp_path) -> Path:
    """A copy of the package to which the patches of CONTRIBUTING.md have been applied."""
    shutil.copytree(ROOT / "nemo", tmp_path / "nemo", ignore=shutil.ignore_patterns("__pycache__"))
    for patch in blocks("CONTRIBUTING.md", "diff"):
        subprocess.run(["git", "apply", "-"], input=patch.code, text=True, cwd=tmp_path, check=True)
    return tmp_path


PATCHES_AT_WORK = """
import sys
import numpy as np
import torch
from nemo.backends.pytorch.ops.check import checks
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.cli.main import main
from nemo.collections.nlp.data.samples.masking import Masking
from nemo.core import NeuralModuleFactory
from nemo.core.callbacks import StopBelow

masking = Masking(0.5, 4, np.arange(5, 50), "initial")
starts_word = np.array([[True, True, False, True, False, True]])
may_choose = np.array([[False, True, True, True, True, False]])
ids = np.array([[2, 10, 11, 12, 13, 3]])
_, chosen = masking(ids, starts_word, may_choose, np.array([6]), 0, np.array([0]))
print(chosen.nonzero()[1].tolist())
print("bias_relu" in [name for name, *_ in checks(torch.float32)])
factory = NeuralModuleFactory(random_seed=0)
data = RealFunctionDataLayer(n=100, batch_size=10)()
loss = MSELoss()(predictions=TaylorNet(dim=4)(x=data.x), target=data.y)
factory.train(
    [loss],
    callbacks=[StopBelow(loss, limit=1e9, patience=2)],
    optimizer="sgd",
    optimization_params={"lr": 0.01, "max_steps": 9},
)
print(f"stopped after {factory.get_trainer().step} steps")
main(["count", sys.argv[1]])
"""


@pytest.mark.slow
def test_the_patches_of_contributing_apply_and_work(patched):
    (patched / "text.txt").write_text("A story.\nIt ends.\n\nAnother one.\nIt goes on.\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PATCHES_AT_WORK, "text.txt"],
        cwd=patched,
        env={**os.environ, "PYTHONPATH": str(patched)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[:2] == ["[1, 3]", "True"]  # the first tokens of both words
    assert "stopped after 2 steps" in done.stdout
    assert done.stdout.splitlines()[-1] == "2"
