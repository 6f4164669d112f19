"""Compares the whole command `nemo-bert prepare` with NVIDIA's `create_pretraining_data.py`.

    python benchmarks/prepare_nvidia.py create_pretraining_data.py TEXT.txt [...] [--rounds 3]

The script is PyTorch/LanguageModeling/BERT/create_pretraining_data.py of NVIDIA/DeepLearningExamples, in one
folder with its tokenization.py and file_utils.py; it is not part of this project. Of file_utils, it uses only
`cached_path`, which returns local paths unchanged; a stub that does the same avoids the import of boto3.

Texts must have a sentence per line and a blank line between documents, the only format that the script reads.
Both write one HDF5 file per text, with 128 tokens and 20 targets per row, using the same lower-casing
WordPiece vocabulary, learned from the first text. Times are user CPU seconds of fresh processes with one
thread each, imports included. The two alternate (A B A B ...) after one uncounted run of each. Ours also
writes a token store, checksums and manifests.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import h5py

from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer

ENVIRONMENT = {
    **{name: "1" for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "HF_HUB_OFFLINE")},
    "TOKENIZERS_PARALLELISM": "false",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every text with every number of passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("script", type=Path, help="NVIDIA's create_pretraining_data.py")
    parser.add_argument("texts", nargs="+", type=Path, help="UTF-8 text files")
    parser.add_argument("--dupe_factor", nargs="+", type=int, default=[1, 5], help="passes over the text")
    parser.add_argument("--vocab_size", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    print("| text | passes | NVIDIA's script, s | ours, s | ratio | its rows | our rows |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer"
        train_tokenizer("word-piece", args.texts[:1], tokenizer, args.vocab_size, do_lower_case=True)
        for text in args.texts:
            for passes in args.dupe_factor:
                print(_compared(args.script, text.absolute(), tokenizer, passes, args.rounds), flush=True)


def _compared(script: Path, text: Path, tokenizer: Path, passes: int, rounds: int) -> str:
    """A row of the table."""
    out = tokenizer.parent / "out"
    theirs = [
        *(str(script), "--input_file", str(text), "--output_file", str(out / "theirs.hdf5")),
        *("--vocab_file", str(tokenizer / "vocab.txt"), "--bert_model", str(tokenizer / "vocab.txt")),
        *("--max_seq_length", "128", "--max_predictions_per_seq", "20", "--dupe_factor", str(passes)),
    ]
    ours = [
        *("-m", "nemo.cli.main", "prepare", str(text), "--out", str(out / "ours")),
        *("--tokenizer", str(tokenizer), "--phases", "128/20", "--dupe_factor", str(passes)),
        *("--sentences", "line", "--text_layout", "blank", "--test_fraction", "0", "--num_shards", "1"),
        *("--workers", "1"),
    ]
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        seconds.append((_user_seconds(theirs), _user_seconds(ours)))
    a, b = (median(times) for times in zip(*seconds[1:], strict=True))
    each = ("/".join(f"{value:.2f}" for value in times) for times in zip(*seconds[1:], strict=True))
    (shard,) = (out / "ours").glob("hdf5_*/*/*.hdf5")
    rows = (_num_rows(path) for path in (out / "theirs.hdf5", shard))
    name = f"{text.name}, {text.stat().st_size / 1e6:.1f} MB"
    return "| " + " | ".join([name, str(passes), *each, f"{a / b:.2f}", *map(str, rows)]) + " |"


def _user_seconds(words: list[str]) -> float:
    """User CPU seconds of Python with these arguments, children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | ENVIRONMENT
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def _num_rows(path: Path) -> int:
    with h5py.File(path) as file:
        return len(file["input_ids"])


if __name__ == "__main__":
    main()
