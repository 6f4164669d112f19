"""Work folders of runs as `pretrain` leaves them, made without training."""

import json
import math
from pathlib import Path
from typing import Any

import yaml


def write_run(folder: Path, steps: int = 60, evaluations: bool = True, **replaced: Any) -> Path:
    """A run with falling losses.

    Args:
        evaluations: is there held-out text?
        replaced: file name without its ending -> its content: an object, or text as it is.
    """
    rows: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = 5 + math.exp(-step / 20)
        rows.append({"step": step, "epoch": 0, "loss": loss + 0.7, "mlm_loss": loss, "nsp_loss": 0.7})
        rows[-1] |= {"lr": 1e-3 * step / steps, "grad_norm": 1.0, "tokens_per_s": 2e4, "seconds": step / 2}
        if evaluations and step % 20 == 0:
            row = {"eval_mlm_loss": loss, "eval_mlm_accuracy": 0.2, "eval_unigram_entropy": 6.0}
            rows.append({"step": step, "epoch": 0, **row})
    text = {"documents": 7, "languages": {"en": 1.0}, "documents_by_length": {"10": 1.0}}
    sentence: dict[str, Any] = {"before": "The", "word": "cat", "after": "sees."}
    sentence["guesses"] = {"0": [["a", 0.1]], "60": [["cat", 0.9]]}
    contents: dict[str, Any] = {
        "metrics.jsonl": "".join(f"{json.dumps(row)}\n" for row in rows),
        "status.json": {"state": "finished", "step": steps, "total_steps": steps, "tokens": 9},
        "config.yaml": yaml.safe_dump({"mode": "data_text", "lr": 0.5, "seed": 0}),
        "about.json": {
            "command": "nemo-bert pretrain --lr 0.5",
            "environment": {"python": "3.11", "threads": 2},
            "model": {"layers": 2},
            "tokenizer": {"entries": 100, "example": ["the", "cat"]},
            "data": {"training": text},
        },
        "guesses.json": {"sentences": [sentence]},
    }
    folder.mkdir(parents=True)
    for name, content in contents.items():
        content = replaced.get(name.partition(".")[0], content)
        if content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return folder
