"""Text and JSON lines: what is no text, is damaged, or is too little."""

import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.faults.bad_inputs.commands import DATA, USAGE, Code, assert_one_clear_line, faults, train, write

FAULTS = [
    # Text: files without any, and what is no UTF-8 (rows 1, 3 to 5 of the matrix of faults).
    ("prepare texts/empty.txt --out out", DATA, "empty.txt"),
    ("prepare texts/blank.txt --out out", DATA, "blank.txt|no text"),
    ("tokenizer texts/blank.txt --out out", DATA, "blank.txt"),
    ("inspect texts/empty.txt", DATA, "empty.txt"),
    ("show-batch texts/blank.txt --tokenizer run/tokenizer", DATA, "blank.txt"),
    ("evaluate run --eval_data texts/empty.txt", DATA, "empty.txt"),
    ("evaluate run --eval_data texts/blank.txt", DATA, "blank.txt"),
    (f"{train('text/train.txt')} --eval_data texts/blank.txt", DATA, "blank.txt"),
    (train("texts/lone.txt"), DATA, r"lone.txt:2: .*0x80"),
    (train("texts/overlong.txt"), DATA, r"overlong.txt:2: .*0xc0"),
    (train("texts/surrogate.txt"), DATA, r"surrogate.txt:2: .*0xed"),
    ("prepare texts/cut.txt --out out", DATA, r"cut.txt:2: .*0xe4"),
    ("tokenizer texts/overlong.txt --out out", DATA, "overlong.txt:2"),
    ("evaluate run --eval_data texts/overlong.txt", DATA, "overlong.txt:2"),
    ("inspect texts/utf16le.txt", DATA, "utf16le.txt: text in UTF-16; .*iconv -f utf-16-le"),
    ("prepare texts/utf16.txt --out out", DATA, "utf16.txt: text in UTF-16"),
    (train("texts/nul.txt"), DATA, "nul.txt: looks binary"),
    ("prepare texts/nul.txt --out out", DATA, "nul.txt: looks binary"),
    (train("texts/elf.txt"), DATA, "elf.txt: a program"),
    ("show-batch texts/elf.txt --tokenizer run/tokenizer", DATA, "elf.txt: a program"),
    (train("texts/pickle.txt"), DATA, "pickle.txt: a pickle"),
    (train("texts/page.txt"), DATA, "page.txt: HTML or XML"),
    # Archives are never unpacked (79).
    (train("texts/a.zip"), DATA, r"a.zip: an archive \(zip\); .*fix: unpack it"),
    (train("texts/a.tar"), DATA, r"a.tar: an archive \(tar\); .*fix: unpack it"),
    ("prepare texts/a.tar.gz --out out", DATA, r"a.tar.gz: an archive \(tar\)"),
    ("inspect texts/a.tar.gz", DATA, r"a.tar.gz: an archive \(tar\)"),
    (train("texts/not.gz"), DATA, "not.gz: has the suffix of a gzip file, but is not one"),
    (train("texts/cut.xz"), DATA, "cut.xz: "),
    (train("texts/not.parquet"), DATA, "not.parquet: has the suffix of a Parquet file, but is not one"),
    (train("texts/cut.parquet"), DATA, "cut.parquet"),
    # JSON lines (10, 11).
    (train("json/surrogate.jsonl"), DATA, r"surrogate.jsonl:2: text that is not Unicode; .*ud83d"),
    (train("json/null.jsonl"), DATA, "null.jsonl:2: no text in 'text'; found NoneType"),
    (train("json/number.jsonl"), DATA, "number.jsonl:2: no text in 'text'; found int"),
    (train("json/missing.jsonl"), DATA, "missing.jsonl:2: no field 'text'; found 'title'"),
    (train("json/brackets.jsonl"), DATA, "brackets.jsonl:2: not JSON"),
    (train("json/cut.jsonl"), DATA, "cut.jsonl:2: not JSON"),
    (train("json/array.jsonl"), DATA, "array.jsonl:2: not a JSON object"),
    ("prepare json/null.jsonl --out out", DATA, "null.jsonl:2"),
    ("inspect json/cut.jsonl", DATA, "cut.jsonl:2: not JSON"),
    ("tokenizer json/missing.jsonl --out out", DATA, "missing.jsonl:2: no field 'text'"),
    # Too little text (20, 22).
    (train("texts/one.txt"), DATA, "one.txt"),
    ("evaluate run --eval_data texts/one.txt", DATA, "one.txt"),
    ("evaluate run --eval_data texts/unknown.txt", DATA, "unknown.txt"),
    ("prepare texts/one.txt --phases 32/5 --out out", DATA, ""),
    *[
        (f"tokenizer text/train.txt --vocab_size {n} --out out", USAGE, "vocab_size")
        for n in (0, 1, 4, 5, 10)
    ],
    (
        "tokenizer text/train.txt --kind sentence-piece --vocab_size 10 --out out",
        USAGE,
        "vocab_size|vocabulary",
    ),
]


def make_faults() -> None:
    import pyarrow
    import pyarrow.parquet

    good = Path("text/train.txt").read_text()
    archive, packed, table = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("../../outside.txt")
        member.size = len(good)
        tar.addfile(member, io.BytesIO(good.encode()))
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("../outside.txt", good)
    pyarrow.parquet.write_table(pyarrow.table({"text": [good] * 3}), table)
    write(
        "texts",
        {
            "empty.txt": b"",
            "blank.txt": b"\n \n\t\n",
            "one.txt": "The cat sees the dog.\n",
            "unknown.txt": "\U000e0000\n\U000e0001 \U000e0000\n\n" * 20,
            "lone.txt": b"Good words.\n\x80\n",
            "overlong.txt": b"Good words.\n\xc0\xaf\n",
            "surrogate.txt": b"Good words.\n\xed\xa0\xbd\n",
            "cut.txt": b"Good words.\n\xe4\xbb",
            "utf16le.txt": good.encode("utf-16-le"),
            "utf16.txt": good.encode("utf-16"),
            "nul.txt": bytes(1 << 20),
            "elf.txt": b"\x7fELF\x02\x01\x01" + bytes(57),
            "pickle.txt": pickle.dumps(Code()),
            "page.txt": "<!DOCTYPE html>\n<html><body>404 not found</body></html>\n",
            "a.zip": packed.getvalue(),
            "a.tar": archive.getvalue(),
            "a.tar.gz": gzip.compress(archive.getvalue()),
            "not.gz": good,
            "cut.xz": lzma.compress(good.encode())[:-40],
            "not.parquet": good,
            "cut.parquet": table.getvalue()[:-9],
        },
    )
    write(
        "json",
        {
            f"{name}.jsonl": f'{{"text": "Good words."}}\n{line}'
            for name, line in {
                "surrogate": '{"text": "half \\ud83d"}\n',
                "null": '{"text": null}\n',
                "number": '{"text": 7}\n',
                "missing": '{"title": "Cats"}\n',
                "brackets": f'{{"text": {"[" * 100_000}\n',
                "cut": '{"text": "Good wo',
                "array": '["Good words."]\n',
            }.items()
        },
    )


@pytest.mark.slow
@faults(FAULTS)
def test_a_fault_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    assert_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message)
