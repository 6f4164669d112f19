"""HDF5 shards and token stores, and their manifests."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults.bad_inputs.commands import DATA, USAGE, assert_one_clear_line, faults, shards, train, write
from tests.shards import make_rows, write_shard, write_variable_shard

FAULTS = [
    # Shards (27, 29 to 31).
    *[(shards(f"bad_shards/cut{n}.hdf5"), DATA, f"cut{n}.hdf5: ") for n in range(5)],
    (shards("bad_shards/empty.hdf5"), DATA, "empty.hdf5: an empty file"),
    (shards("bad_shards/text.hdf5"), DATA, "text.hdf5: this is a text file"),
    (shards("only_readme"), DATA, "only_readme: no HDF5 shards in this folder"),
    (shards("bad_shards/missing.hdf5"), DATA, "missing.hdf5: missing field; expected segment_ids"),
    (shards("bad_shards/rank.hdf5"), DATA, "rank.hdf5 next_sentence_labels: wrong shape"),
    (shards("bad_shards/lengths.hdf5"), DATA, "lengths.hdf5 masked_lm_ids: shape does not match"),
    (shards("bad_shards/float.hdf5"), DATA, "float.hdf5 input_ids: wrong type; found float32"),
    (shards("bad_shards/objects.hdf5"), DATA, "objects.hdf5 input_ids: wrong type"),
    (shards("bad_shards/no_rows.hdf5"), DATA, "no_rows.hdf5: the shard has no rows"),
    (shards("bad_shards/id.hdf5"), DATA, "id.hdf5 row 19 input_ids: beyond the vocabulary; found 60"),
    (shards("bad_shards/negative.hdf5"), DATA, "negative.hdf5 row 9 input_ids: .*found -1"),
    (shards("bad_shards/position.hdf5"), DATA, "position.hdf5 row 0 masked_lm_positions: .*found 16"),
    (shards("bad_shards/label.hdf5"), DATA, "label.hdf5 row 19 next_sentence_labels: .*found 7"),
    (shards("bad_shards/external_link.hdf5"), DATA, "external_link.hdf5 input_ids: a link to elsewhere"),
    (shards("bad_shards/soft_link.hdf5"), DATA, "soft_link.hdf5 input_ids: a link to elsewhere"),
    (shards("bad_shards/external.hdf5"), DATA, "external.hdf5 input_ids: data stored in another file"),
    (shards("bad_shards/virtual.hdf5"), DATA, "virtual.hdf5 input_ids: data stored in another file"),
    (shards("bad_shards/long_row.hdf5"), DATA, "long_row.hdf5 .*too long for a sequence"),
    (shards("bad_shards/named.hdf5"), DATA, "named.hdf5"),
    (f"{shards('shards')} --max_predictions_per_seq 2", DATA, "max_predictions_per_seq"),
    (f"{shards('shards')} --max_seq_length 12", USAGE, "max_seq_length"),
    ("inspect bad_shards/negative.hdf5", DATA, "negative.hdf5 row 9 input_ids: .*found -1"),
    (
        "show-batch bad_shards/float.hdf5 --tokenizer run/tokenizer",
        DATA,
        "float.hdf5 input_ids: wrong type",
    ),
    ("evaluate run --eval_data bad_shards/virtual.hdf5", DATA, "virtual.hdf5"),
    ("inspect bad_shards/external_link.hdf5", DATA, "external_link.hdf5"),
    # Manifests of shards and stores (55, 57).
    *[
        (shards(f"manifests/{name}"), DATA, f"manifests/{name}.*: ")
        for name in ("newer", "broken", "twice", "outside", "absolute", "nul", "nested", "list_of_files")
    ],
    (
        f"{shards('manifests/other')} --tokenizer run/tokenizer",
        DATA,
        "manifest.json: made with a different tokenizer",
    ),
    *[(train(f"stores/{name}"), DATA, f"stores/{name}") for name in ("newer", "broken", "outside", "cut")],
]


def make_faults() -> None:
    _make_shards()
    _make_links()
    _make_manifests()


def _make_shards() -> None:
    rows = make_rows(20)
    good = Path("shards/a_training.hdf5").read_bytes()
    bad = Path("bad_shards")
    write("only_readme", {"README.md": "Shards were here.", ".DS_Store": b"\0\0\0\1Bud1"})
    write("bad_shards", {"empty.hdf5": b"", "text.hdf5": "Good words.\n" * 100})
    write(
        "bad_shards",
        {
            f"cut{n}.hdf5": good[: int(len(good) * share)]
            for n, share in enumerate((0.02, 0.3, 0.6, 0.9, 0.999))
        },
    )

    def put(field: str, place, value) -> Callable[[dict], None]:
        return lambda arrays: arrays[field].__setitem__(place, value)

    def alter(field: str, how: Callable) -> Callable[[dict], None]:
        return lambda arrays: arrays.update({field: how(arrays[field])})

    for name, change in {
        "missing": lambda arrays: arrays.pop("segment_ids"),
        "rank": alter("next_sentence_labels", lambda values: values[:, None]),
        "lengths": alter("masked_lm_ids", lambda values: values[:-1]),
        "float": alter("input_ids", lambda values: values.astype("f4")),
        "objects": alter("input_ids", lambda values: values.astype("S5")),
        "id": put("input_ids", (19, 3), 60),
        "negative": put("input_ids", (9, 3), -1),
        "position": put("masked_lm_positions", (0, 0), 16),
        "label": put("next_sentence_labels", 19, 7),
    }.items():
        write_shard(bad / f"{name}.hdf5", rows, change=change)
    write_shard(
        bad / "no_rows.hdf5",
        rows,
        change=lambda arrays: arrays.update({name: values[:0] for name, values in arrays.items()}),
        compression=None,
    )
    write_variable_shard(bad / "long_row.hdf5", rows)
    with h5py.File(bad / "long_row.hdf5", "r+") as file:
        file["input_ids"][3] = np.ones(100_000, "i4")


def _make_links() -> None:
    """Shards whose first field is elsewhere, or not a field."""
    bad, secret = Path("bad_shards"), Path("shards/a_training.hdf5").absolute()
    for name in ("external_link", "soft_link", "external", "virtual", "named"):
        shutil.copy(secret, bad / f"{name}.hdf5")
        with h5py.File(bad / f"{name}.hdf5", "r+") as file:
            shape, dtype = file["input_ids"].shape, file["input_ids"].dtype
            file.move("input_ids", "moved")
            if name == "external_link":
                file["input_ids"] = h5py.ExternalLink(str(secret), "/input_ids")
            elif name == "soft_link":
                file["input_ids"] = h5py.SoftLink("/moved")
            elif name == "external":
                file.create_dataset(
                    "input_ids", shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
                )
            elif name == "virtual":
                layout = h5py.VirtualLayout(shape, dtype)
                layout[:] = h5py.VirtualSource(str(secret), "input_ids", shape)
                file.create_virtual_dataset("input_ids", layout)
            else:
                file["input_ids"] = np.dtype("i4")


def _make_manifests() -> None:
    shard = Path("shards/a_training.hdf5").read_bytes()
    whole = {"format": "nemo-bert shards", "version": 1, "tokenizer": "x", "files": {}}
    size = {"bytes": len(shard)}
    for name, manifest in {
        "other": json.dumps(whole),
        "newer": json.dumps({**whole, "version": 2}),
        "broken": json.dumps(whole)[:-4],
        "twice": json.dumps(whole)[:-1] + ', "version": 1}',
        "outside": json.dumps({**whole, "files": {"../../shards/a_training.hdf5": size}}),
        "absolute": json.dumps({**whole, "files": {"/etc/passwd": size}}),
        "nul": json.dumps({**whole, "files": {"a\0b": size}}),
        "nested": "[" * 100_000,
        "list_of_files": json.dumps({**whole, "files": ["a"]}),
    }.items():
        write(f"manifests/{name}", {"a.hdf5": shard, "manifest.json": manifest})
    store, _ = sorted(Path("text/bert").glob("store-*"))
    manifest = json.loads((store / "manifest.json").read_text())
    for name in ("newer", "broken", "outside", "cut"):
        shutil.copytree(store, f"stores/{name}")
        shutil.copytree("run/tokenizer", "stores/bert", dirs_exist_ok=True)
    write("stores/newer", {"manifest.json": json.dumps({**manifest, "version": 99})})
    write("stores/broken", {"manifest.json": json.dumps({"format": manifest["format"]})})
    arrays = {"../../../etc/passwd": manifest["arrays"]["tokens"], **manifest["arrays"]}
    write("stores/outside", {"manifest.json": json.dumps({**manifest, "arrays": arrays})})
    write("stores/cut", {"tokens.bin": (store / "tokens.bin").read_bytes()[:-2]})


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)
