"""Modules to and from YAML."""

import sys
from enum import Enum

import numpy as np
import pytest
import yaml

from nemo.backends.pytorch.tutorials import TaylorNet
from nemo.core import NeuralModule
from nemo.utils.errors import MissingFileError, UsageError


class Recorder(NeuralModule):
    def __init__(self, a=None, b=None):
        super().__init__()


class Variadic(NeuralModule):
    def __init__(self, first, *sizes, scale=1, **more):
        super().__init__()


class Outer:
    class Inner(NeuralModule):
        def __init__(self, x):
            super().__init__()


class Status(Enum):
    SUCCESS = 0


class WithEnum(NeuralModule):
    """Writes and reads its configuration itself, as NeMo 0.10's documentation shows."""

    def __init__(self, status):
        super().__init__()
        self.status = status

    def export_to_config(self, config_file):
        config = {"header": self._create_config_header(), "init_params": {"status": self.status.value}}
        with open(config_file, "w") as file:
            yaml.safe_dump(config, file)

    @classmethod
    def import_from_config(cls, config_file, section_name=None, overwrite_params={}):  # noqa: B006
        params = cls._validate_config_file(config_file, section_name)["init_params"]
        params.update(overwrite_params)
        return cls(Status(params["status"]))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "module.yml"


def written(path, **config):
    path.write_text(yaml.safe_dump(config))
    return path


def described(spec, params=None):
    return {"header": {"full_spec": spec}, "init_params": params or {}}


SPEC = f"{__name__}.Recorder"


@pytest.mark.parametrize(
    "params",
    [
        {"a": "ala ma kota", "b": 12.4},
        {"a": True, "b": None},
        {"a": [[1, [2.5, "x"]], []], "b": {"c": {"d": [None]}, 1: "one"}},
        {"a": "123", "b": "中文: no"},
    ],
)
def test_a_module_is_restored_with_its_parameters(path, params):
    Recorder(**params).export_to_config(path)
    for importer in (NeuralModule, Recorder):
        module = importer.import_from_config(path)
        assert type(module) is Recorder
        assert module.init_params == params


def test_the_header_says_class_and_version(path):
    Outer.Inner(x=1).export_to_config(path)
    header = yaml.safe_load(path.read_text())["header"]
    assert header["full_spec"] == f"{__name__}.Outer.Inner"
    assert header.keys() == {"nemo_core_version", "collection_type", "collection_version", "full_spec"}
    assert header["collection_type"] is None
    assert type(NeuralModule.import_from_config(path)) is Outer.Inner


def test_a_module_of_a_collection_names_it(path):
    from nemo.collections.nlp.nm.trainables import TokenClassifier

    TokenClassifier(hidden_size=4, num_classes=2).export_to_config(path)
    header = yaml.safe_load(path.read_text())["header"]
    assert header["collection_type"] == "nlp"
    assert header["collection_version"] == header["nemo_core_version"]
    assert NeuralModule.import_from_config(path).mlp.last_linear_layer.weight.shape == (2, 4)


def test_collected_arguments_are_restored(path):
    module = Variadic("f", 3, 4, scale=2, color="red")
    module.export_to_config(path)
    assert NeuralModule.import_from_config(path).init_params == module.init_params
    assert module.init_params == {"first": "f", "sizes": (3, 4), "scale": 2, "color": "red"}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Exception("x"), "init_params.a: cannot be written to a configuration; found Exception"),
        ((1, 2), "init_params.a: .* found tuple"),
        ([0, {"k": (1,)}], r"init_params.a\[1\]\['k'\]: .* found tuple"),
        ({(1,): 0}, "a key of init_params.a: .* found tuple"),
        (np.float64(1), "found float64"),
        (Status.SUCCESS, "found Status"),
    ],
)
def test_values_that_yaml_cannot_hold_are_refused_by_name(path, value, says):
    with pytest.raises(UsageError, match=says):
        Recorder(a=value).export_to_config(path)
    assert not path.exists()


def test_parameters_can_be_replaced(path):
    Recorder(1, 2).export_to_config(path)
    module = Recorder.import_from_config(path, overwrite_params={"b": (3,)})
    assert module.init_params == {"a": 1, "b": (3,)}


def test_a_section_of_a_file_is_enough(path):
    written(path, first=described(SPEC, {"a": 1}), second=described(SPEC, {"a": 2}))
    assert NeuralModule.import_from_config(path, "second").init_params["a"] == 2


def test_a_class_may_override_import_from_config(path):
    WithEnum(Status.SUCCESS).export_to_config(path)
    for importer in (NeuralModule, WithEnum):
        assert importer.import_from_config(path).status is Status.SUCCESS


@pytest.mark.parametrize(
    ("config", "section", "says"),
    [
        (described(SPEC), "fist", "'fist' is missing; found header, init_params"),
        ({"first": described(SPEC)}, "fist", "fix: did you mean 'first'?"),
        ({"init_params": {}}, None, "'header' is missing"),
        ({"header": {"full_spec": SPEC}}, None, "'init_params' is missing"),
        ({"header": {}, "init_params": {}}, None, "header.full_spec: the class is not named"),
        ({"header": "x", "init_params": {}}, None, "header: not a mapping; found str"),
        (described(SPEC, {"c": 1}), None, "init_params: Recorder takes no 'c'; expected a, b"),
        (described(f"{__name__}.Outer.Inner"), None, "init_params: Inner needs 'x'"),
        (described("nemo.core.NoSuchModule"), None, "unknown NeuralModule"),
        (described("test_a_function.<locals>.Module"), None, "unknown NeuralModule"),
        (described(""), None, "unknown NeuralModule"),
        (described(f"{__name__}.Status"), None, "unknown NeuralModule"),
    ],
)
def test_a_faulty_configuration_is_an_import_error_of_one_line(path, config, section, says):
    with pytest.raises(ImportError) as problem:
        NeuralModule.import_from_config(written(path, **config), section)
    assert says in str(problem.value)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)
    assert problem.value.exit_code == 2


def test_another_class_than_the_callers_is_refused(path):
    Recorder(1).export_to_config(path)
    with pytest.raises(ImportError, match=r"a different class; found .*Recorder, expected .*Outer.Inner"):
        Outer.Inner.import_from_config(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("header: [", "not YAML"),
        ("header: {full_spec: a.b}\nheader: {full_spec: c.d}\ninit_params: {}", "'header' appears twice"),
        ("- 1", "'header' is missing"),
        ("", "'header' is missing"),
        ("[" * 1500 + "]" * 1500, "not YAML: nested too deeply"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused(path, text, says):
    path.write_text(text)
    with pytest.raises(ImportError, match=says):
        NeuralModule.import_from_config(path)


def test_a_missing_file_is_an_error(path):
    with pytest.raises(MissingFileError, match=r"module\.yml: no such file"):
        NeuralModule.import_from_config(path)


def test_a_configuration_runs_nobodys_code(path, tmp_path, monkeypatch):
    """Neither YAML's tags, nor a module that nobody imported, nor a function in place of a class."""
    canary = tmp_path / "canary"
    (tmp_path / "dangerous.py").write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    tag = f"!!python/object/apply:os.system ['touch {canary}']"
    path.write_text(f"header: {{full_spec: {SPEC}}}\ninit_params: {{a: {tag}}}")
    with pytest.raises(ImportError, match="not YAML"):
        NeuralModule.import_from_config(path)
    for spec in (
        "dangerous.Module",
        "os.system",
        "nemo.dangerous.Module",
        "nemo.core.module_config.sys.exit",
    ):
        with pytest.raises(ImportError, match="unknown NeuralModule"):
            NeuralModule.import_from_config(written(path, **described(spec)))
    assert not canary.exists()
    assert "dangerous" not in sys.modules


def test_a_module_of_nemo_is_found_without_an_import(path, monkeypatch):
    home = TaylorNet.__module__
    TaylorNet(dim=4).export_to_config(path)
    monkeypatch.delitem(sys.modules, home)
    module = NeuralModule.import_from_config(path)
    assert (type(module).__name__, module.init_params) == ("TaylorNet", {"dim": 4})
