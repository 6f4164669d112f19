"""A shard is read as a stranger's file: exact where it is right, refused in one line where it is not."""

import random
import resource

import h5py
import numpy as np
import pytest

from nemo.collections.nlp.data.hdf5 import Limits, longest_row, open_shard, read_checked
from nemo.collections.nlp.data.hdf5.shard import FIELDS
from nemo.utils.errors import DataError, MissingFileError
from tests.shards import make_rows, write_shard, write_variable_shard

LIMITS = Limits(seq_length=16, max_predictions=3, vocab_size=60)


def read(path, limits=LIMITS):
    shard = open_shard(path)
    return read_checked(shard, 0, shard.num_rows, limits)


def refused(path, match: str, limits: Limits = LIMITS) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read(path, limits)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.fixture
def rows():
    return make_rows(20)


def test_every_value_is_read(tmp_path, rows):
    expected = {}
    path = write_shard(tmp_path / "a.hdf5", rows, change=expected.update)
    found = read(path)
    assert set(found) == set(expected) == set(FIELDS)
    assert all(np.array_equal(found[name], expected[name]) for name in FIELDS)


def test_rows_without_padding_are_read_as_those_with_it(tmp_path, rows):
    variable = open_shard(write_variable_shard(tmp_path / "v.hdf5", rows))
    assert variable.seq_length is None
    padded, found = read(write_shard(tmp_path / "a.hdf5", rows)), read(variable.path)
    assert all(np.array_equal(found[name], padded[name]) for name in FIELDS)


def test_a_part_of_the_rows_can_be_read(tmp_path, rows):
    for write in (write_shard, write_variable_shard):
        shard = open_shard(write(tmp_path / f"{write.__name__}.hdf5", rows))
        whole, part = read_checked(shard, 0, 20, LIMITS), read_checked(shard, 7, 12, LIMITS)
        assert all(np.array_equal(part[name], whole[name][7:12]) for name in FIELDS)


@pytest.mark.parametrize(
    "how",
    [
        {"compression": None},
        {"compression": "lzf"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": True},
        {"dtype": "i8"},
        {"dtype": ">u2"},
    ],
)
def test_how_integers_are_stored_makes_no_difference(tmp_path, rows, how):
    path = write_shard(tmp_path / "a.hdf5", rows, **how)
    expected = read(write_shard(tmp_path / "b.hdf5", rows))
    assert all(np.array_equal(values, expected[name]) for name, values in read(path).items())


# Headers


def test_a_file_that_is_not_a_shard_is_refused(tmp_path):
    refused(tmp_path / "none.hdf5", "no such file")
    for name, content, match in (
        ("empty.hdf5", b"", "an empty file"),
        ("readme.hdf5", "Ein Text über HDF5.".encode(), "this is a text file; .*add data_text"),
        ("zip.hdf5", b"PK\3\4\0\0\xff\xff" * 10, "not an HDF5 file"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, match)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["weights"] = np.zeros(3)
    refused(tmp_path / "other.hdf5", "missing field; expected input_ids")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path, rows, share):
    path = write_shard(tmp_path / "a.hdf5", rows)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "damaged or truncated")


@pytest.mark.parametrize("field", FIELDS[:5])
def test_a_missing_field_is_named(tmp_path, rows, field):
    path = write_shard(tmp_path / "a.hdf5", rows, change=lambda arrays: arrays.pop(field))
    refused(path, f"missing field; expected {field}")


@pytest.mark.parametrize(
    ("field", "change", "match"),
    [
        ("input_mask", lambda a: a[:-1], "shape does not match .*; found .19, 16., expected .20, 16."),
        ("segment_ids", lambda a: a[:, :-1], "shape does not match .* found .20, 15."),
        ("masked_lm_ids", lambda a: a[:, :-1], "shape does not match"),
        ("next_sentence_labels", lambda a: a[:3], "shape does not match"),
        ("next_sentence_labels", lambda a: a[:, None], "wrong shape; .* expected one value for each row"),
        ("input_ids", lambda a: a[0], "wrong shape; .* expected rows and columns"),
        ("input_ids", lambda a: a.astype("f4"), "wrong type; found float32, expected integers"),
        ("input_ids", lambda a: a.astype("S5"), "wrong type"),
    ],
)  # fmt: skip
def test_a_field_of_another_shape_or_type_is_refused(tmp_path, rows, field, change, match):
    path = write_shard(tmp_path / "a.hdf5", rows, change=lambda a: a.update({field: change(a[field])}))
    refused(path, f"{field}: {match}")


def test_a_shard_without_rows_is_refused(tmp_path, rows):
    def empty(arrays):
        arrays.update({name: values[:0] for name, values in arrays.items()})

    path = write_shard(tmp_path / "a.hdf5", rows, change=empty, compression=None, chunks=None)
    refused(path, "the shard has no rows")


@pytest.mark.parametrize("kind", ["soft link", "external link", "external storage", "virtual", "group"])
def test_links_are_not_followed(tmp_path, rows, kind):
    secret = write_shard(tmp_path / "secret.hdf5", rows)
    path = write_shard(tmp_path / "a.hdf5", rows)
    with h5py.File(path, "r+") as file:
        shape, dtype = file["input_ids"].shape, file["input_ids"].dtype
        file.move("input_ids", "moved")
        if kind == "soft link":
            file["input_ids"] = h5py.SoftLink("/moved")
        elif kind == "external link":
            file["input_ids"] = h5py.ExternalLink(secret, "/input_ids")
        elif kind == "external storage":
            file.create_dataset("input_ids", shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(secret, "input_ids", shape)
            file.create_virtual_dataset("input_ids", layout)
        else:
            file.create_group("input_ids")
    secret.unlink()  # if it were opened, the message would be another
    match = {"soft link": "a link to elsewhere", "external link": "a link to elsewhere", "group": "a group"}
    refused(path, f"input_ids: {match.get(kind, 'data stored in another file')}")


@pytest.mark.parametrize("rows_there", [0, 1000])
def test_a_header_that_declares_too_much_allocates_no_memory(tmp_path, rows_there):
    path = tmp_path / "bomb.hdf5"
    with h5py.File(path, "w") as file:
        for name in FIELDS:
            shape = (10**8,) if name == "next_sentence_labels" else (10**8, 50)
            dataset = file.create_dataset(name, shape, "i4", chunks=(1000, *shape[1:]), compression="gzip")
            dataset[:rows_there] = 1
    assert path.stat().st_size < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, "input_ids: declares more than it stores")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.slow
def test_a_chunk_too_large_to_unpack_is_refused(tmp_path, rows):
    path = write_shard(tmp_path / "a.hdf5", rows)
    with h5py.File(path, "r+") as file:
        del file["input_ids"]
        ids = file.create_dataset(
            "input_ids", (20, 16), "i4", chunks=(5 * 10**6, 16), maxshape=(None, 16), compression="gzip"
        )
        ids[:] = 1
    refused(path, "input_ids: chunks too large")


# Values


@pytest.mark.parametrize("row", [0, 9, 19])
@pytest.mark.parametrize(
    ("field", "column", "value", "match"),
    [
        (
            "input_ids",
            3,
            60,
            "beyond the vocabulary; found 60, expected 0 to 59; fix: .*--tokenizer.*--vocab_size",
        ),
        ("input_ids", 3, -1, "out of range; found -1, expected 0 to 59"),
        ("masked_lm_ids", 0, 1000, "beyond the vocabulary; found 1000"),
        ("masked_lm_positions", 0, 16, "out of range; found 16, expected 0 to 15"),
        ("masked_lm_positions", 0, -3, "out of range; found -3"),
        ("input_mask", 0, 2, "out of range; found 2, expected 0 to 1"),
        ("segment_ids", 0, 7, "out of range; found 7"),
        ("next_sentence_labels", None, 2, "out of range; found 2"),
    ],
)
def test_one_bad_value_is_named_by_file_row_and_field(tmp_path, rows, row, field, column, value, match):
    def change(arrays):
        arrays[field][row if column is None else (row, column)] = value

    refused(write_shard(tmp_path / "a.hdf5", rows, change=change), f"a.hdf5 row {row} {field}: {match}")


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("input_mask", [1, 0, 1, *[0] * 13], "1 for every token"),
        ("input_mask", [1, *[0] * 15], "two tokens or more"),
        ("masked_lm_positions", [0, 2, 0], "ascending positions, 0 after the last"),
        ("masked_lm_positions", [3, 2, 0], "ascending positions"),
        ("masked_lm_positions", [2, 2, 0], "ascending positions"),
        ("masked_lm_positions", [2, 15, 0], "positions of tokens, not of padding"),
        ("input_ids", [9, *[5] * 15], r"\[CLS\] first: 2, as in row 0"),
        ("segment_ids", [0] * 16, "a sentence B"),
        ("segment_ids", [1] * 16, r"0 in \[CLS\] A \[SEP\], 1 in B \[SEP\], 0 in padding"),
        ("segment_ids", [0, 1, 0, *[1] * 13], "0 in"),
        ("segment_ids", [0, 0, *[1] * 7, *[0] * 7], "1 from the token after the first"),
    ],
)
def test_a_row_of_another_structure_is_refused(tmp_path, field, values, expected):
    row = make_rows(1)[0]
    row.tokens, row.length_of_a, row.hidden = [2, 7, 8, 9, 3, 10, 11, 12, 3], 5, {2: 4}
    path = write_shard(
        tmp_path / "a.hdf5", [*make_rows(4), row], change=lambda a: a[field].__setitem__(4, values)
    )
    refused(path, f"row 4 {field}: not a row of .*; expected {expected}")


def test_a_last_token_that_is_not_the_separator_is_refused(tmp_path, rows):
    rows[11].tokens[-1] = 9
    refused(write_shard(tmp_path / "a.hdf5", rows), r"row 11 input_ids: .*expected \[SEP\] last: 3")


def test_rows_without_padding_are_held_to_the_lengths(tmp_path, rows):
    path = write_variable_shard(tmp_path / "v.hdf5", rows)
    longest = max(len(row.tokens) for row in rows)
    refused(
        path, r"input_ids: longer than max_seq_length; .*fix: give --max_seq_length", Limits(longest - 1, 3)
    )
    refused(
        path, "masked_lm_positions: longer than max_predictions_per_seq; found 3, expected 2", Limits(16, 2)
    )
    with h5py.File(path, "r+") as file:
        file["segment_ids"][5] = np.zeros(2, "i1")
    refused(path, "row 5 segment_ids: length differs from input_ids; found 2")


def test_a_file_that_is_changed_while_it_is_used_is_noticed(tmp_path, rows):
    shard = open_shard(write_shard(tmp_path / "a.hdf5", rows))
    write_shard(tmp_path / "a.hdf5", rows[:10])
    with pytest.raises(DataError, match="the file changed while in use"):
        read_checked(shard, 0, 10, LIMITS)
    shard.path.unlink()
    with pytest.raises(MissingFileError):
        read_checked(shard, 0, 10, LIMITS)


@pytest.mark.parametrize("how", [{}, {"compression": None, "fletcher32": True}])
def test_no_flipped_bit_in_the_data_goes_unnoticed(tmp_path, rows, how):
    path = write_shard(tmp_path / "a.hdf5", rows, **how)
    with h5py.File(path) as file:
        chunks = [file[name].id.get_chunk_info(0) for name in FIELDS]
    content, expected = path.read_bytes(), read(path)
    rng = random.Random(0)
    silent = 0
    for _ in range(100):
        chunk = rng.choice(chunks)
        damaged = bytearray(content)
        damaged[chunk.byte_offset + rng.randrange(chunk.size)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            silent += any(not np.array_equal(values, expected[name]) for name, values in read(path).items())
        except DataError as error:
            assert str(path) in str(error)
    assert silent == 0


@pytest.mark.parametrize("field", ["segment_ids", "next_sentence_labels"])
def test_rows_that_the_index_has_lost_are_not_taken_for_zeros(tmp_path, rows, field):
    path = write_shard(tmp_path / "a.hdf5", rows)
    with h5py.File(path, "r+") as file:
        values = file[field][:]
        del file[field]
        chunks = (4, *values.shape[1:])
        lost = file.create_dataset(field, values.shape, "i1", chunks=chunks, compression="gzip")
        lost[:12], lost[16:] = values[:12], values[16:]
    refused(path, "damaged")


def test_damaged_headers_end_in_an_error_or_in_rows_that_can_be(tmp_path, rows):
    path = write_shard(tmp_path / "a.hdf5", rows)
    content = path.read_bytes()
    rng = random.Random(0)
    errors = 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[rng.randrange(2000)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            read(path)
        except DataError:
            errors += 1
    assert errors > 10


def test_rows_longer_than_any_sequence_are_refused_unread(tmp_path, rows):
    path = write_shard(tmp_path / "a.hdf5", rows)
    with h5py.File(path, "r+") as file:
        for name in ("input_ids", "input_mask", "segment_ids"):
            del file[name]
            file.create_dataset(name, shape=(len(rows), 100_000), dtype="i1", compression="gzip")
            file[name][:] = 1
    with pytest.raises(DataError, match="too long for a sequence; found 100,000"):
        open_shard(path)


def test_rows_that_share_one_long_list_are_refused_with_little_memory(tmp_path, rows):
    path = write_variable_shard(tmp_path / "v.hdf5", rows)
    with h5py.File(path, "r+") as file:
        file["input_ids"][3] = np.ones(100_000, "i4")
    with pytest.raises(DataError, match="too long for a sequence; found 100,000"):
        longest_row(open_shard(path))


@pytest.mark.parametrize("locking", [False, True, None])
def test_a_shard_that_is_already_open_can_be_read(tmp_path, locking):
    path = write_shard(tmp_path / "a.hdf5", make_rows(4))
    with h5py.File(path, "r", locking=locking):
        shard = open_shard(path)
        assert shard.num_rows == 4
