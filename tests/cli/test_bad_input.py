"""Every mistake of the first hour ends in one clear line, the right exit code, and nothing half done.

Each case is a command line in a folder with:
    text/train.txt, text/valid.txt   good text, and `run`, a work folder that was trained on it
    what `_make_mistakes` adds       one file or folder per mistake
"""

import gzip
import json
import os
import re
import shlex
import shutil
import struct
from pathlib import Path

import pytest
import torch

from nemo.cli.main import main
from nemo.utils.lock import WorkFolderLock
from tests.cli.outcome import error_of
from tests.conftest import write_english

SIZES = (
    "--tokenizer word-piece --vocab_size 80 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 64 --max_seq_length 32 --batch_size 8 --optimizer adam_w --lr 1e-3 "
    "--eval_step_freq -1 --threads 1 --num_iters 2 --work_dir out"
)
GOOD = f"{SIZES} --train_data text/train.txt"


def pretrain(more: str) -> str:
    """A command line that would train, and then the mistake: the last of an option's values counts."""
    return f"pretrain {GOOD} data_text {more}"


USAGE, DATA, CHECKPOINT, STORAGE, BUSY = 2, 3, 4, 5, 8
MISTAKES = [
    # The command line itself.
    ("pretrian", USAGE, "did you mean pretrain"),
    (pretrain("--hiden_size 32"), USAGE, "did you mean --hidden_size"),
    (pretrain("--batch_size"), USAGE, "--batch_size: expected one argument"),
    (pretrain("--batch_size many"), USAGE, "--batch_size: invalid integer value: 'many'"),
    (pretrain("--batch_size 1.5"), USAGE, "--batch_size: invalid integer value: '1.5'"),
    (pretrain("data_txt"), USAGE, "data_txt"),
    (f"pretrain {GOOD} data_txt", USAGE, "found 'data_txt', expected data_text or data_preprocessed"),
    (f"pretrain {SIZES} data_text", USAGE, "no training data"),
    (pretrain("--num_epochs 1"), USAGE, "--num_epochs and --num_iters cannot be combined"),
    # Numbers out of their range, names that do not exist.
    (pretrain("--batch_size 0"), USAGE, "--batch_size: out of range; found 0, expected 1 or more"),
    (pretrain("--lr -1"), USAGE, "--lr: out of range; found -1.0, expected more than 0"),
    (pretrain("--lr nan"), USAGE, "--lr: out of range; found nan"),
    (pretrain("--mask_probability 1.5"), USAGE, "--mask_probability: out of range; found 1.5"),
    (pretrain("--mask_probability 0.3:0"), USAGE, "--mask_probability: out of range; found 0.3:0"),
    (pretrain("--mask_probability half"), USAGE, "--mask_probability: not a share of tokens; found 'half'"),
    (pretrain("--mask_probability 0"), USAGE, "--mask_probability: out of range; found 0"),
    (pretrain("--short_seq_prob -0.1"), USAGE, "--short_seq_prob: out of range"),
    (pretrain("--hidden_dropout_prob 1"), USAGE, "--hidden_dropout_prob: out of range"),
    (pretrain("--beta2 1"), USAGE, "--beta2: out of range; found 1.0, expected 0 or more and less than 1"),
    (pretrain("--max_seq_length 4"), USAGE, "--max_seq_length: out of range; found 4, expected 8 or more"),
    (pretrain("--save_step_freq 0"), USAGE, "--save_step_freq: out of range; found 0"),
    (pretrain("--num_iters 0"), USAGE, "--num_iters: out of range; found 0"),
    (pretrain("--optimizer adamw"), USAGE, "did you mean 'adam_w'"),
    (pretrain("--lr_policy CosineAnealing"), USAGE, "did you mean 'CosineAnnealing'"),
    (pretrain("--hidden_act gello"), USAGE, "did you mean 'gelu"),
    (pretrain("--amp_opt_level O5"), USAGE, "--amp_opt_level: not one of the choices; found 'O5'"),
    (pretrain("--tokenizer sentence-peice"), USAGE, "did you mean 'sentence-piece'"),
    (
        pretrain("--num_attention_heads 5"),
        USAGE,
        "the hidden size is not divisible by the number of heads; found 5",
    ),
    (pretrain("--hidden_size 999999999999"), USAGE, "--hidden_size: out of range"),
    (pretrain("--num_hidden_layers 100000"), USAGE, "--num_hidden_layers: out of range"),
    (pretrain("--num_gpus 2"), USAGE, "--num_gpus"),
    (pretrain("--work_dir ''"), USAGE, "--work_dir: empty value"),
    (pretrain("--threads 100000"), USAGE, "--threads: out of range"),
    (pretrain("--seed 99999999999999999999"), USAGE, "--seed: out of range"),
    # Configuration files.
    (pretrain("--config_file misspelled.json"), USAGE, "unknown name; found 'hidden_sise'; .*'hidden_size'"),
    (pretrain("--config nowhere.yaml"), DATA, "nowhere.yaml: no such configuration file"),
    (pretrain("--config broken.yaml"), USAGE, "broken.yaml:1: not YAML"),
    (pretrain("--config unknown.yaml"), USAGE, "unknown.yaml: unknown name; found 'hiden_size'"),
    (pretrain("--config typed.yaml"), USAGE, "batch_size: wrong type of value; found 'many'"),
    (pretrain("--config_file nowhere.json"), DATA, "nowhere.json: no such file"),
    (pretrain("--config_file text/train.txt"), USAGE, "train.txt: not a BERT configuration"),
    (pretrain("--config_file gpt2.json"), USAGE, "gpt2.json: not a BERT: model_type; found gpt2"),
    # Text.
    (pretrain("--train_data nowhere.txt"), DATA, "nowhere.txt: no such file or folder"),
    (pretrain("--eval_data nowhere.txt"), DATA, "nowhere.txt: no such file or folder"),
    (pretrain("--train_data empty.txt"), DATA, r"empty.txt"),
    (pretrain("--train_data blank.txt"), DATA, r"blank.txt"),
    (pretrain("--train_data no_text"), DATA, "no_text"),
    (pretrain("--train_data one_line.txt"), DATA, "one_line.txt"),
    (pretrain("--train_data latin1.txt"), DATA, r"latin1.txt:2: .*byte.*0xe9"),
    (pretrain("--train_data utf16.txt"), DATA, "utf16.txt"),
    (pretrain("--train_data binary.txt"), DATA, "binary.txt"),
    (pretrain("--train_data gb18030.txt"), DATA, "gb18030.txt:2: .*fix: .*iconv -f gb18030 -t utf-8"),
    (pretrain("--train_data report.pdf"), DATA, "report.pdf: a PDF; .*fix: extract its text"),
    (
        pretrain("--train_data report.docx"),
        DATA,
        "report.docx: a Word document .*fix: export it as plain text",
    ),
    (pretrain("--train_data cut.txt.gz"), DATA, "cut.txt.gz: damaged: it cannot be decompressed"),
    (pretrain("--train_data list.json"), DATA, "list.json: not JSON lines; found a JSON list.*fix: jq -c"),
    (pretrain("--train_data news.jsonl"), DATA, "news.jsonl:1: no field 'text'.*such as 'content'"),
    (
        pretrain("--train_data news.jsonl --text_field content"),
        DATA,
        "news.jsonl:3: not JSON; .*expected one JSON object per line",
    ),
    (pretrain("--train_data news.csv"), DATA, "news.csv: no field 'text'; found 'id', 'content'"),
    (pretrain("--train_data news.csv --text_field ''"), USAGE, "text_field: empty value"),
    (pretrain("--train_data http://127.0.0.1:1/a.txt"), DATA, "http://127.0.0.1:1/a.txt: no such file, or"),
    (pretrain("--text_format word"), USAGE, "--text_format: not one of the choices; found 'word'"),
    (
        f"pretrain {SIZES} --train_data shards --text_field content",
        USAGE,
        "--text_field: only for data_text",
    ),
    (pretrain("--eval_data text/train.txt"), USAGE, "train.txt: the held-out text is also trained on"),
    (pretrain("--train_data two_texts"), DATA, "two_texts.other.txt"),
    # Without a subcommand the data are prepared shards.
    (f"pretrain {GOOD}", USAGE, "if the data is text, add data_text"),
    ("pretrain --work_dir out --train_data text/train.txt", DATA, "text/train.txt: .*data_text"),
    # Vocabularies.
    (pretrain("--vocab_size 10"), USAGE, "vocab_size|vocabulary"),
    (pretrain("--tokenizer sentence-piece --vocab_size 9"), USAGE, "vocab_size|vocabulary"),
    (pretrain("--train_data bad_model/train.txt --tokenizer sentence-piece"), USAGE, "tokenizer.model"),
    (pretrain("--train_data no_mask/train.txt"), USAGE, r"vocab.txt: special tokens are missing; .*\[MASK\]"),
    # Checkpoints.
    (pretrain("--load_dir nowhere"), CHECKPOINT, "nowhere: no checkpoint to resume from"),
    (pretrain("--load_dir text"), CHECKPOINT, "text: no checkpoint to resume from"),
    (pretrain("--load_dir damaged"), CHECKPOINT, "BERT.safetensors: damaged: its content has changed"),
    (
        pretrain("--load_dir run --hidden_size 64"),
        USAGE,
        "--hidden_size: contradicts run.*found 64, expected 32",
    ),
    (
        pretrain("--load_dir run --vocab_size 60"),
        USAGE,
        "--vocab_size: contradicts run.*found 60, expected 80",
    ),
    (pretrain("--bert_checkpoint nowhere.pt"), DATA, "nowhere.pt: no such file"),
    (pretrain("--bert_checkpoint other.pt"), USAGE, "other.pt: this model comes without its tokenizer"),
    (pretrain("--tokenizer run/tokenizer --bert_checkpoint text/train.txt"), CHECKPOINT, "train.txt"),
    (pretrain("--tokenizer run/tokenizer --bert_checkpoint code.pt"), CHECKPOINT, "code.pt"),
    (pretrain("--tokenizer run/tokenizer --bert_checkpoint other.pt"), CHECKPOINT, "other.pt"),
    (
        pretrain("--work_dir run --batch_size 4"),
        CHECKPOINT,
        "a run with a different samples_per_step; found 8, expected 4",
    ),
    # The work folder.
    (pretrain("--work_dir text/train.txt"), STORAGE, "train.txt"),
    (pretrain("--work_dir busy"), BUSY, "busy: .*another run"),
    # What comes after training.
    ("evaluate nowhere --eval_data text/valid.txt", DATA, "nowhere: no such model"),
    ("evaluate text --eval_data text/valid.txt", CHECKPOINT, "text: no checkpoint"),
    ("evaluate run --eval_data nowhere.txt", DATA, "nowhere.txt: no such file"),
    ("evaluate run", USAGE, "--eval_data"),
    (
        "evaluate run --eval_data text/valid.txt --max_seq_length 64",
        USAGE,
        "longer than the model allows; found 64, expected 32 or less",
    ),
    ("fill-mask run 'nothing is hidden'", USAGE, r"\[MASK\]"),
    ("export run text", USAGE, "text: "),
    ("tokenizer nowhere.txt --out vocabulary", DATA, "nowhere.txt: no such file"),
    ("tokenizer empty.txt --out vocabulary", DATA, "empty.txt"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_english(folder / "text")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert main(shlex.split(pretrain("--work_dir run"))) == 0
        _make_mistakes(folder)
    finally:
        os.chdir(before)
    return folder


def _make_mistakes(folder: Path) -> None:
    text = (folder / "text/train.txt").read_text()
    for name, content in {
        "broken.yaml": b"lr: [1, 2",
        "unknown.yaml": b"hiden_size: 32",
        "typed.yaml": b"batch_size: many",
        "gpt2.json": json.dumps({"model_type": "gpt2", "vocab_size": 80}).encode(),
        "misspelled.json": json.dumps({"vocab_size": 80, "hidden_sise": 32}).encode(),
        "empty.txt": b"",
        "blank.txt": b"\n \n\t\n",
        "one_line.txt": b"The cat sees the dog.\n",
        "latin1.txt": "Good words.\nUn café.\n".encode("latin-1"),
        "utf16.txt": text.encode("utf-16"),
        "gb18030.txt": "Good words.\n今天的天气很好，我们一起去公园。\n".encode("gb18030"),
        "report.pdf": b"%PDF-1.7\n\xe2\xe3\xcf\xd3\n",
        "report.docx": b"PK\x03\x04" + bytes(26) + b"word/document.xml",
        "cut.txt.gz": gzip.compress(text.encode())[:-100],
        "list.json": json.dumps([{"text": text}]).encode(),
        "news.jsonl": b'{"id": "1", "content": "Good words."}\n' * 2 + b"{'content': 1}\n",
        "news.csv": b"id,content\n1,Good words.\n",
        "binary.txt": struct.pack("<1000d", *range(1000)),
    }.items():
        (folder / name).write_bytes(content)
    (folder / "two_texts").mkdir()
    (folder / "two_texts/one.txt").write_text(text)
    (folder / "two_texts/other.txt").write_bytes(b"Good words.\n\xff\xfe")
    (folder / "no_text").mkdir()
    (folder / "no_text/picture.png").write_bytes(b"\x89PNG")
    for name, file, content in (
        ("bad_model", "tokenizer.model", b"not a model"),
        ("no_mask", "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n"),
    ):
        (folder / name / "bert").mkdir(parents=True)
        (folder / name / "train.txt").write_text(text)
        (folder / name / "bert" / file).write_bytes(content)
    shutil.copytree(folder / "run", folder / "damaged")
    weights = next((folder / "damaged").rglob("BERT.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    torch.save({"weights": _Code()}, folder / "code.pt")
    torch.save({"bert.embeddings.word_embeddings.weight": torch.zeros(7, 3)}, folder / "other.pt")


class _Code:
    """A pickle that would leave a file behind if it were run."""

    def __reduce__(self):
        return os.mkdir, ("code-was-run",)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "exit_code", "message"), MISTAKES, ids=[words for words, *_ in MISTAKES])
def test_a_mistake_ends_in_one_clear_line(folder, monkeypatch, capsys, words, exit_code, message):
    monkeypatch.chdir(folder)
    shutil.rmtree(folder / "out", ignore_errors=True)
    with WorkFolderLock(folder / "busy"):
        found = main(shlex.split(words))
    line = error_of(capsys)
    names = {2: "USAGE", 3: "DATA", 4: "CHECKPOINT", 5: "STORAGE", 8: "BUSY"}
    assert line.startswith(f"error[{names[exit_code]}] ") and found == exit_code, line
    assert re.search(message, line), line
    assert not list(folder.glob("out/checkpoints/STEP-*")) and not (folder / "code-was-run").exists()
