"""The existing run in a work folder, and what must match to resume it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo.backends.pytorch.checkpoints import checkpoint
from nemo.collections.nlp.checkpoints.initial_checkpoint import CONFIG_FILE
from nemo.collections.nlp.models.hub import SIZES
from nemo.collections.nlp.models.hub import read_config as read_bert_config
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.arguments import absolute, read_config
from nemo.utils.errors import CheckpointError, UsageError


def earlier_options(work_dir: Path, known: str, fix: str) -> dict[str, Any]:
    """The options of the run in this folder, as its `config.yaml` has them.

    Args:
        known: what only that file knows, for the error.
        fix: how to do without it.

    Raises:
        UsageError: it is not there, as where checkpoints alone were copied.
    """
    file = work_dir / "config.yaml"
    if not file.is_file():
        raise UsageError(
            f"missing, although there are checkpoints: only this file records {known}",
            where=file,
            fix=f"copy it as well, or {fix}",
        )
    return read_config(PretrainingOptions, file)


def options_of_run(work_dir: Path) -> PretrainingOptions | None:
    """The options of the run in this folder, for a remark on them; None if they cannot be read."""
    file = work_dir / "config.yaml"
    try:
        return PretrainingOptions(**read_config(PretrainingOptions, file)) if file.is_file() else None
    except UsageError:
        return None


def refuse_other_start(options: PretrainingOptions, work_dir: Path) -> None:
    """Raise a UsageError if the run in this folder, which is about to go on, started from something else."""
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
                f"the run in {work_dir} did not start from it, and would resume without it",
                where=f"--{name}",
                found=given,
                expected=before or "nothing",
                fix="use another --work_dir",
            )


def config_of_run(work_dir: Path) -> dict[str, Any] | None:
    """The settings of the model whose checkpoints are in this work folder; None if none says them."""
    folder = work_dir / "checkpoints"
    checkpoints = checkpoint.list_checkpoints(folder)
    for place in (folder, *reversed(checkpoints)) if checkpoints else ():
        if (place / CONFIG_FILE).is_file():
            return read_bert_config(place / CONFIG_FILE).to_dict()
    return None


def refuse_other_sizes(sizes: Mapping[str, Any], earlier: Mapping[str, Any], source: Any) -> None:
    """Hold the sizes that the options make to those of the run that they are to go on with.

    Raises:
        CheckpointError: names the one that differs.
    """
    for name in SIZES:
        if name in sizes and sizes[name] != earlier[name]:
            raise CheckpointError(
                f"the checkpoint comes from a run with a different {name}",
                where=source,
                found=earlier[name],
                expected=sizes[name],
                fix="use the same options and data, or another --work_dir",
            )
