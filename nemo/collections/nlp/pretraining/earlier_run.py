"""The existing run in a work folder, and what must match to resume it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.collections.nlp.checkpoints.initial_checkpoint import CONFIG_FILE
from nemo.collections.nlp.models.bert_settings import SIZES, BertSettings
from nemo.collections.nlp.models.hub import read_bert_config
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import absolute, read_options
from nemo.utils.errors import CheckpointError, UsageError


def earlier_options(work_dir: Path, known: str, fix: str) -> dict[str, Any]:
    """The options of the run in this folder, from its `config.yaml`.

    Args:
        known: what only this file records, for the error.
        fix: how to do without it, for the error.

    Raises:
        UsageError: the file is missing, for example because only checkpoints were copied.
    """
    file = work_dir / "config.yaml"
    if not file.is_file():
        raise UsageError(
            f"missing, although there are checkpoints: only this file records {known}",
            where=file,
            fix=f"copy it as well, or {fix}",
        )
    return read_options(PretrainingOptions, file)


def options_of_run(work_dir: Path) -> PretrainingOptions | None:
    """The options of the run in this folder, for messages; None if they cannot be read."""
    file = work_dir / "config.yaml"
    try:
        return PretrainingOptions(**read_options(PretrainingOptions, file)) if file.is_file() else None
    except UsageError:
        return None


def refuse_other_start(options: PretrainingOptions, work_dir: Path) -> None:
    """Raise a UsageError if the run to resume in this folder has another initial checkpoint."""
    if options.load_dir is None and options.bert_checkpoint is None:
        return
    earlier = earlier_options(
        work_dir, "what the run started from", "leave --load_dir and --bert_checkpoint out"
    )
    for name in ("load_dir", "bert_checkpoint"):
        given, before = getattr(options, name), earlier[name]
        is_this_run = given is not None and Path(given).resolve() in (
            work_dir.resolve(),
            (work_dir / "checkpoints").resolve(),
        )
        is_same = given is None or (before is not None and absolute(given) == absolute(before))
        if not (is_same or is_this_run):
            raise UsageError(
                f"the run in {work_dir} started from another checkpoint; resuming would ignore this one",
                where=f"--{name}",
                found=given,
                expected=before or "nothing",
                fix="use another --work_dir",
            )


def settings_of_run(work_dir: Path) -> dict[str, Any] | None:
    """The model's settings saved in the checkpoints of this work folder; None if there is none."""
    folder = work_dir / "checkpoints"
    checkpoints = checkpoint.list_checkpoints(folder)
    for candidate in (folder, *reversed(checkpoints)) if checkpoints else ():
        if (candidate / CONFIG_FILE).is_file():
            return read_bert_config(candidate / CONFIG_FILE).to_dict()
    return None


def refuse_other_sizes(sizes: Mapping[str, Any], earlier: BertSettings, source: Any) -> None:
    """Refuse options whose model sizes differ from those of the run to continue.

    Raises:
        CheckpointError: a size differs; the message names it.
    """
    for name in SIZES:
        if name in sizes and sizes[name] != getattr(earlier, name):
            raise CheckpointError(
                f"the checkpoint comes from a run with a different {name}",
                where=source,
                found=getattr(earlier, name),
                expected=sizes[name],
                fix="use the same options, or another --work_dir",
            )
