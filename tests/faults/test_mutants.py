"""A few mutants of every kind of file; `make chaos` tries thousands."""

import pytest

from tests.faults.mutants import Reader, try_mutants
from tests.faults.readers import readers


@pytest.fixture(scope="module")
def all_readers(undisturbed, tmp_path_factory):
    data, _ = undisturbed
    return {
        reader.name: reader for reader in readers(data, data.parent / "run", tmp_path_factory.mktemp("m"))
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["vocab.txt", "config.yaml", "manifest.json", "HDF5 shard", "tokenizer.model"]
)
def test_damaged_files_are_refused_or_recognized(all_readers, name):
    outcomes = try_mutants(all_readers[name], 40, seed=1)
    assert outcomes.faults == []
    assert sum(outcomes.counts.values()) == 40
    assert outcomes.counts["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda path: len(path.read_bytes()), "silently used"),
        (lambda path: int(path.read_bytes().decode()), "traceback"),
    ],
)
def test_every_kind_of_fault_is_counted(tmp_path, read, fault):
    original = tmp_path / "number"
    original.write_bytes(b"12345")
    outcomes = try_mutants(Reader("number", original, read), 30, seed=0)
    assert outcomes.counts[fault] > 5 and fault in outcomes.faults[0]
    assert original.read_bytes() == b"12345"
