"""Records the performance of a machine: steps, real runs, and the accuracy of --minutes, in one command.

    python benchmarks/record.py [--out FOLDER] [--text TEXT] [--minutes 3]

Runs `step.py` with all columns and shapes at O0 and O2, `train.py` at both, and `on_time.py`, and saves their
output and JSON in FOLDER, with a README.md that combines them. The default of FOLDER is
`benchmarks/records/<date>_machine`; that of TEXT is the English prose installed on this machine, as for
`nemo-bert demo`. Takes about two hours on two cores. Finished parts are not measured again, so an interrupted
record can be resumed. Exits with 1 if a part failed or the machine's speed was not steady.

    python benchmarks/record.py --tiny --out FOLDER      the same on tiny models, in a minute
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOG_LINE = re.compile(r"\[NeMo |\d\d:\d\d:\d\d ")  # log lines of a run, which contain local paths
HERE = Path(__file__).resolve().parent
TINY_MODEL = shlex.split(
    "--vocab_size 120 --hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --intermediate_size 64 "
    "--max_seq_length 32 --batch_size 4 --threads 1"
)
SHORT = shlex.split("--windows 2 --seconds 0.05 --probe_seconds 0.05")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write; return the exit status."""
    args = _arguments(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    text = args.text or _prose(Path("outputs/corpus"))
    levels = ["O0", "O2"]
    parts = {
        "step": ["--level", *levels, "--against", "default", "bf16", "best"],
        "train": [str(text), "--level", *levels],
        "on_time": [str(text), "--minutes", str(args.minutes)],
    }
    if args.tiny:
        parts = {
            "step": ["--shapes", "tiny", "--threads", "1", "--against", "default", *SHORT],
            "train": [str(text), "--steps", "50", "--profile", "4", *SHORT, *TINY_MODEL],
            "on_time": [str(text), "--minutes", "0.05", *TINY_MODEL],
        }
    codes = {name: _part(name, options, args.out) for name, options in parts.items()}
    (args.out / "README.md").write_text(_readme(args.out, codes), encoding="utf-8")
    print(f"\nthe record is in {args.out}")
    return max(codes.values())


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = HERE / "records" / f"{time.strftime('%Y-%m-%d')}_machine"
    parser.add_argument("--out", type=Path, default=default, help="the folder of the record")
    parser.add_argument("--text", type=Path, help="a file or folder, as for --train_data")
    parser.add_argument("--minutes", type=float, default=3.0, help="--minutes of on_time.py")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try out this script")
    return parser.parse_args(argv)


def _prose(corpus: Path) -> Path:
    """The text of `nemo-bert demo`."""
    from nemo.cli.demo_corpus import collect

    if not (corpus / "train.txt").is_file():
        collect(corpus)
    return corpus / "train.txt"


def _part(name: str, options: Sequence[str], out: Path) -> int:
    """Run a script and save its output; return 0, or 1 if it failed."""
    told, report = out / f"{name}.txt", out / f"{name}.json"
    if told.is_file():
        print(f"{told} exists", flush=True)
        return 0 if json.loads(report.read_text(encoding="utf-8")).get("steady", True) else 1
    command = [sys.executable, str(HERE / f"{name}.py"), *options, "--json", str(report)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    if report.is_file():
        told.write_text("".join(lines), encoding="utf-8")
    return int(process.returncode != 0)


def _readme(out: Path, codes: dict[str, int]) -> str:
    """The README: the machine, and the printed tables."""
    found = {name: _read(out / f"{name}.json") for name in codes}
    machine = next((report["environment"] for report in found.values() if report), None)
    lines = [f"# Record of {machine['date'] if machine else 'nothing'}", ""]
    if machine:
        cpu, versions = machine["cpu"], machine["versions"]
        lines += [
            f"{cpu['cores']} cores of {cpu['model']} ({', '.join(cpu['features'])}), "
            f"{machine['threads']} threads, torch {versions['torch']}, "
            f"transformers {versions['transformers']}; made by `python benchmarks/record.py`.",
            "",
        ]
    for name, report in found.items():
        if report is None:
            lines += [f"## {name}.py", "", "Failed without results.", ""]
            continue
        valid = "" if report.get("steady", True) else " **Not valid**: the machine's speed was not steady."
        lines += [f"## {name}.py", "", f"`{report['environment']['command']}`{valid}", ""]
        told = (out / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        kept = [line.rstrip() for line in told if not LOG_LINE.match(line)]
        lines += [*_as_markdown(kept), ""]
    return "\n".join(lines).rstrip() + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _as_markdown(lines: Sequence[str]) -> list[str]:
    """Tables unchanged, and a line break after every other line."""
    made: list[str] = []
    for line in lines:
        is_row = line.startswith("|")
        if made and is_row != made[-1].startswith("|") and made[-1]:
            made.append("")
        made.append(line if is_row or not line else f"{line.strip()}  ")
    return made


if __name__ == "__main__":
    sys.exit(main())
