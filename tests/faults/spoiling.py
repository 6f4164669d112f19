"""Command lines and files as a user might give them, from a seed.

A case starts from a command line that is right, in a folder where everything is, and spoils a few things: the
value of an option, a file, a path, the streams.
"""

import dataclasses
import json
import random
import shlex
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nemo.cli.evaluate import EvaluateOptions
from nemo.cli.export import ExportOptions
from nemo.cli.fill_mask import FillMaskOptions
from nemo.cli.inspect import InspectOptions
from nemo.cli.report import ReportOptions
from nemo.cli.show_batch import ShowBatchOptions
from nemo.cli.tokenizer import TrainTokenizerOptions
from nemo.collections.nlp.options import (
    AdaptationOptions,
    ExtensionOptions,
    FinetuningOptions,
    PretrainingOptions,
)
from nemo.collections.nlp.preparation.options import PrepareOptions
from tests.faults.labeled import LABELED
from tests.faults.mutants import mutant

SIZES = (
    "--vocab_size 80 --hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 64 "
    "--max_seq_length 32 --batch_size 8 --optimizer adam_w --lr 1e-3 --eval_step_freq -1 --threads 1"
)
TEXT = f"pretrain {SIZES} --num_iters 2 --train_data text/train.txt --eval_data text/valid.txt --work_dir out"
SHARDS = f"pretrain {SIZES} --num_iters 2 --train_data shards --eval_data shards --work_dir out"
LEARNING = "--lr 1e-3 --num_epochs 1 --seeds 1 --threads 1 --work_dir out"
ADAPTING = (
    "adapt hf field.txt --replay field.txt --text_layout blank --minutes 0.01 --pretraining_batch_size 8"
)
COMMANDS: list[tuple[str, type]] = [
    (f"{TEXT} --tokenizer word-piece data_text", PretrainingOptions),
    (f"{TEXT} --tokenizer sentence-piece data_text", PretrainingOptions),
    (f"{TEXT} --tokenizer vocab.txt data_text", PretrainingOptions),
    (f"{TEXT} --tokenizer hf data_text", PretrainingOptions),
    (f"{TEXT} --config_file bert-config.json --tokenizer run/tokenizer data_text", PretrainingOptions),
    (f"{TEXT} --bert_checkpoint hf data_text", PretrainingOptions),
    (f"{TEXT} --bert_checkpoint run data_text", PretrainingOptions),
    (f"{TEXT} --load_dir run --num_iters 4 data_text", PretrainingOptions),
    (f"{TEXT} --work_dir run --num_iters 3 --tokenizer word-piece data_text", PretrainingOptions),
    ("pretrain --config run/config.yaml --work_dir out", PretrainingOptions),
    ("pretrain --config run/config.yaml --work_dir run --num_iters 3", PretrainingOptions),
    (f"{TEXT} --train_data prepared --eval_data prepared data_text", PretrainingOptions),
    (
        f"{TEXT} --train_data text.jsonl --eval_data text/valid.txt --tokenizer word-piece data_text",
        PretrainingOptions,
    ),
    (f"{SHARDS} --tokenizer run/tokenizer", PretrainingOptions),
    (f"{SHARDS} --masking whole_word --tokenizer prepared/bert", PretrainingOptions),
    ("prepare text/train.txt --vocab_size 80 --workers 1 --phases 32/5 --out out", PrepareOptions),
    ("prepare text.jsonl --tokenizer hf --workers 1 --near_duplicates --out out", PrepareOptions),
    ("inspect text text.jsonl --workers 1", InspectOptions),
    ("inspect prepared --tokenizer hf --workers 1 --json", InspectOptions),
    ("inspect shards --workers 1", InspectOptions),
    ("show-batch text/train.txt --tokenizer vocab.txt -n 2", ShowBatchOptions),
    ("show-batch shards --tokenizer run/tokenizer -n 2", ShowBatchOptions),
    ("show-batch prepared -n 2 --masking span", ShowBatchOptions),
    ("tokenizer text/train.txt --vocab_size 80 --out out", TrainTokenizerOptions),
    ("tokenizer text.jsonl --kind sentence-piece --vocab_size 80 --out out", TrainTokenizerOptions),
    ("evaluate run --eval_data text/valid.txt", EvaluateOptions),
    ("evaluate run/checkpoints/STEP-2 --eval_data shards --json", EvaluateOptions),
    ("evaluate run --eval_data prepared --masking token", EvaluateOptions),
    ("fill-mask run 'the [MASK] sees the dog'", FillMaskOptions),
    ("fill-mask run/checkpoints/STEP-2 'a [MASK]' --tokenizer run/tokenizer", FillMaskOptions),
    (f"finetune hf --train tags.txt --test more-tags.txt {LEARNING}", FinetuningOptions),
    (f"finetune run --task ner --train tags.pubtator --valid tags.jsonl {LEARNING}", FinetuningOptions),
    (f"finetune run --task classify --train texts.csv --test texts.tsv {LEARNING}", FinetuningOptions),
    (f"finetune hf --task pairs --train texts.jsonl --pair_column more {LEARNING}", FinetuningOptions),
    ("extend-vocab hf text/train.txt --pieces 3 --out out", ExtensionOptions),
    ("extend-vocab run text.jsonl --least_saving 0.01 --out out", ExtensionOptions),
    (f"{ADAPTING} --train tags.txt --test more-tags.txt {LEARNING}", AdaptationOptions),
    (
        f"{ADAPTING} --level vocabulary --pieces 3 --task classify --train texts.csv {LEARNING}",
        AdaptationOptions,
    ),
    ("report run --out page.html", ReportOptions),
    ("report run run --out page.html", ReportOptions),
    ("export run out", ExportOptions),
    ("export run hf --force", ExportOptions),
]
# Options whose large values, or one of whose choices, are right and take long.
SMALL = {
    "num_iters": ("-5", "0", "1", "2.5"),
    "num_epochs": ("-1", "0", "x"),
    "minutes": ("0", "-1", "0.0001", "nan"),
    "dupe_factor": ("0", "1", "2"),
    "batches_per_step": ("0", "1", "3"),
    "hidden_size": ("0", "1", "2", "30", "31", "999999999999"),
    "num_hidden_layers": ("0", "2", "99999999"),
    "num_attention_heads": ("0", "1", "3", "32", "64"),
    "intermediate_size": ("0", "1", "7", "999999999999999"),
    "workers": ("0", "1", "2", "-1"),
    "threads": ("0", "1", "99999999"),
    "num_gpus": ("0", "1", "2"),
    "hang_timeout": ("0", "-1", "600"),
    "num_samples": ("0", "1", "1001"),
    "seeds": ("-1", "0", "1", "2"),
    "num_shards": ("0", "1", "3"),
    "part_mb": ("0", "1"),
    "engine": ("local", "slurm", "ray", "x"),
}
WHOLE = (
    "-1",
    "0",
    "1",
    "2",
    "7",
    "8",
    "9",
    "31",
    "33",
    "64",
    "1e3",
    "2147483648",
    "99999999999999999999",
    "1.5",
    "",
)
REAL = ("-1", "0", "1", "0.5", "0.999999", "1e-300", "1e308", "1e400", "nan", "inf", "-inf", "", "x")
WORDS = (
    "",
    "x",
    "text",
    "None",
    "-",
    "--",
    "a b",
    "\n",
    "ж",
    "\udcff",
    "a" * 300,
    "../..",
    "~nobody/x",
    "%s",
    "[MASK]",
)
PATHS = (
    *("tags.txt", "tags.pubtator", "texts.csv", "texts.jsonl", "field.txt"),
    *(
        "text",
        "text/train.txt",
        "text.jsonl",
        "run",
        "run/checkpoints",
        "run/checkpoints/STEP-2",
        "hf",
        "prepared",
    ),
    *("prepared/train", "prepared/bert", "shards", "vocab.txt", "bert-config.json", "run/config.yaml"),
    *("run/tokenizer", "run/metrics.jsonl", "run/checkpoints/STEP-2/BERT.safetensors", "hf/tokenizer.json"),
    *(
        "nowhere",
        "empty",
        "empty.txt",
        "loop",
        "/dev/null",
        "/dev/zero",
        "fifo",
        "odd.bin",
        "/",
        ".",
        "x" * 300,
    ),
    *(
        "nowhere/deep/file.txt",
        "text/train.txt/x",
        "s3://bucket/x",
        "http://127.0.0.1:1/x.txt",
        "file:///nowhere",
    ),
    *("bad\udcff.txt", "new\nline.txt", " ", "-x"),
)
POSITIONAL = ("model", "text", "input", "inputs", "mode")
SPOILED = (
    *LABELED,
    *("text/train.txt", "text/valid.txt", "text.jsonl", "vocab.txt", "bert-config.json"),
    *("run/config.yaml", "run/status.json", "run/metrics.jsonl", "run/checkpoints/bert-config.json"),
    *("run/tokenizer/vocab.txt", "run/tokenizer/tokenizer_config.json", "run/tokenizer/made-for.json"),
    *(
        f"run/checkpoints/STEP-2/{name}"
        for name in ("manifest.json", "state.json", "bert-config.json", "vocab.txt")
    ),
    *(f"run/checkpoints/STEP-2/{name}.safetensors" for name in ("BERT", "optimizer")),
    *(
        "hf/config.json",
        "hf/tokenizer.json",
        "hf/tokenizer_config.json",
        "hf/vocab.txt",
        "hf/model.safetensors",
    ),
    *(
        "prepared/manifest.json",
        "prepared/train/manifest.json",
        "prepared/train/tokens.bin",
        "prepared/bert/vocab.txt",
    ),
    *("shards/training.hdf5", "shards/test.hdf5", "shards/manifest.json"),
)
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        31,
        10**20,
        -(10**20),
        0.5,
        1e308,
        "",
        "x",
        "\udcff",
        "0",
        "null",
        [],
        {},
    ),
    *([1], ["x"], {"x": 1}, [[[[]]]], "a" * 200, "gpt2", "BertTokenizer", "../x"),
)


@dataclass
class Case:
    """A command line, what was done to the files beforehand, and the streams it is given."""

    seed: int
    words: list[str]
    spoiled: list[str] = field(default_factory=list)
    streams: str = "plain"

    def __str__(self) -> str:
        done = "".join(f"; {what}" for what in self.spoiled)
        return ascii(f"case {self.seed}, {self.streams}: {shlex.join(self.words)[:600]}{done}")


def make_case(seed: int, folder: Path) -> Case:
    """The case of a seed; its files are spoiled in `folder`, a copy of what `make_folder` made."""
    rng = random.Random(seed)
    line, options = rng.choice(COMMANDS)
    case = Case(seed, shlex.split(line))
    for _ in range(rng.choice([1, 1, 2, 3])):
        spoil = rng.choices([_give_value, _give_path, _spoil_file, _lose_word], [5, 2, 5, 1])[0]
        spoil(rng, case, options, folder)
    if rng.random() < 0.15:
        case.streams = rng.choice(["ascii", "latin-1", "closed pipe", "none", "full"])
    return case


def _give_value(rng: random.Random, case: Case, options: type, folder: Path) -> None:
    """Any option, with a value at or beyond the border of what it takes."""
    hints = typing.get_type_hints(options)
    fields = [f for f in dataclasses.fields(options) if not f.metadata.get("is_path")]
    if not fields:
        _give_path(rng, case, options, folder)
        return
    chosen = rng.choice(fields)
    kinds = typing.get_args(hints[chosen.name]) or (hints[chosen.name],)
    if bool in kinds:
        case.words.append(rng.choice([f"--{chosen.name}", f"--no-{chosen.name}"]))
        return
    values: tuple[str, ...] = WORDS
    if chosen.name in SMALL:
        values = SMALL[chosen.name]
    elif choices := chosen.metadata["choices"]:
        values = (*choices, *choices, "x", "")
    elif int in kinds:
        values = WHOLE
    elif float in kinds:
        values = REAL
    if chosen.name in POSITIONAL:
        case.words.append(rng.choice(values))
    else:
        case.words.append(f"--{chosen.name}={rng.choice(values)}")


def _give_path(rng: random.Random, case: Case, options: type, folder: Path) -> None:
    """One path in place of another, or beside it."""
    path = rng.choice(PATHS)
    at = [
        i
        for i, word in enumerate(case.words[1:], 1)
        if word.partition("/")[0] in PATHS or "/" in word or word == "out"
    ]
    if at and rng.random() < 0.7:
        case.words[rng.choice(at)] = path
        return
    names = [f.name for f in dataclasses.fields(options) if f.metadata.get("is_path")]
    name = rng.choice(names)
    case.words += [path] if name in POSITIONAL else [f"--{name}={path}"]


def _lose_word(rng: random.Random, case: Case, options: type, folder: Path) -> None:
    """A word gone, twice, or somewhere else."""
    i = rng.randrange(1, len(case.words))
    word = case.words.pop(i)
    for _ in range(rng.choice([0, 0, 1, 2])):
        case.words.insert(rng.randrange(1, len(case.words) + 1), word)


def _spoil_file(rng: random.Random, case: Case, options: type, folder: Path) -> None:
    """A file damaged, of another kind, gone, or with a value that it cannot have."""
    done = {what.partition(":")[0] for what in case.spoiled}
    names = [name for name in SPOILED if name not in done and (folder / name).is_file()]
    told = " ".join(case.words)
    named = [name for name in names if name.partition("/")[0] in told]
    name = rng.choice(named if named and rng.random() < 0.9 else names)
    path = folder / name
    ways: list[tuple[Callable[[Path, random.Random], str], int]] = [(_in_its_place, 2), (_bytes_of_it, 2)]
    if path.suffix in (".json", ".yaml", ".jsonl"):
        ways.append((_value_in_it, 12))
    if path.suffix == ".txt":
        ways.append((_lines_of_it, 8))
    how, weights = zip(*ways, strict=True)
    case.spoiled.append(f"{name}: {rng.choices(how, weights)[0](path, rng)}")


def _in_its_place(path: Path, rng: random.Random) -> str:
    path.unlink()
    match what := rng.choice(
        ["nothing", "an empty file", "a folder", "a link to itself", "a link to nowhere", "text"]
    ):
        case "an empty file":
            path.touch()
        case "a folder":
            path.mkdir()
        case "a link to itself":
            path.symlink_to(path.name)
        case "a link to nowhere":
            path.symlink_to("nowhere")
        case "text":
            path.write_text("Some text.\n")
    return what


def _bytes_of_it(path: Path, rng: random.Random) -> str:
    seed = rng.randrange(10**9)
    path.write_bytes(mutant(path.read_bytes(), random.Random(seed)))
    return f"mutant {seed}"


def _lines_of_it(path: Path, rng: random.Random) -> str:
    lines = path.read_bytes().split(b"\n")
    i = rng.randrange(len(lines))
    odd = [
        b"",
        b" ",
        b"\xe2\x80\xa8",
        b"\xc2\xa0",
        b"\xef\xbb\xbf",
        b"\xff",
        b"a" * 9000,
        b"[MASK]",
        b"##",
        lines[0],
    ]
    line = rng.choice(odd)
    match what := rng.choice(["replaced", "added", "gone", "all after it gone", "all of them", "CRLF"]):
        case "replaced":
            lines[i] = line
        case "added":
            lines.insert(i, line)
        case "gone":
            del lines[i]
        case "all after it gone":
            del lines[i:]
        case "all of them":
            lines = [line] * len(lines)
    path.write_bytes((b"\r\n" if what == "CRLF" else b"\n").join(lines))
    return f"line {i} {what} {line[:9]!r}"


def _value_in_it(path: Path, rng: random.Random) -> str:
    """Another value somewhere in a JSON or YAML file, or none."""
    is_yaml = path.suffix == ".yaml"
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    at = rng.randrange(len(lines))
    content = yaml.safe_load(lines[at]) if is_yaml else json.loads(lines[at])
    place: Any = content
    told = ""
    while isinstance(place, dict | list) and place:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        told += f".{key}"
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.6:
            place = place[key]
            continue
        match what := rng.choice(["gone", "other", "other", "other", "new"]):
            case "gone":
                del place[key]
            case "other":
                place[key] = rng.choice(VALUES)
                told += f" = {place[key]!r}"
            case "new" if isinstance(place, dict):
                place[rng.choice(["x", "type_vocab_size", "vocab_size", "model_type", ""])] = rng.choice(
                    VALUES
                )
        told += f" ({what})"
        break
    else:
        content = rng.choice(VALUES)
        told = f"{content!r}"
    lines[at] = yaml.safe_dump(content, allow_unicode=True) if is_yaml else json.dumps(content)
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    return told[:300]
