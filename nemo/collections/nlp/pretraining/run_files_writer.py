"""The files in which a run records its options, model and environment."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.pretraining.about import about
from nemo.collections.nlp.pretraining.setup import Run, with_steps
from nemo.core import (
    ActionCallback,
)
from nemo.utils.arguments import as_config
from nemo.utils.progress import working
from nemo.utils.refusal import RestoreOnFailure
from nemo.utils.step_plan import StepPlan


@dataclass(frozen=True)
class RecipeNotes:
    """What a recipe knows of a run before it begins.

    Attributes:
        remarks: lines that `config.yaml` begins with, as comments.
        languages: of the training text, ISO 639 code -> share; None if not detected.
    """

    remarks: str = ""
    languages: Mapping[str, float] | None = None


class RunFilesWriter(ActionCallback):
    """Records what the run is, once it is clear that the work folder does not belong to another run.

    Args:
        before: what the work folder was before.
        notes: of the recipe, if one chose the options.
    """

    def __init__(
        self, run: Run, work_folder: Any, before: RestoreOnFailure, num_processes: int, notes: RecipeNotes
    ):
        self.run, self.work_folder, self.before = run, work_folder, before
        self.num_processes, self.notes = num_processes, notes

    def on_action_start(self) -> None:
        self.before.begins()
        if self.global_rank != 0:
            return
        self.write(self.run.plan)
        settings = self.run.model.bert.settings
        (self.work_folder.checkpoint_dir / "bert-config.json").write_text(settings.to_json(), "utf-8")
        with working("looking at the text"):
            facts = about(
                self.run.options,
                self.run.data,
                self.run.model,
                self.num_processes,
                self.notes.languages,
            )
        self.work_folder.write_json("about.json", facts)

    def write(self, plan: StepPlan) -> None:
        """Write the options, with the current plan of the steps."""
        config = as_config(with_steps(self.run.options, plan))
        self.work_folder.write_config(config, self.notes.remarks)


def checkpoint_files(model: PretrainingModel, tokenizer: TokenizerSpec | None) -> dict[str, bytes]:
    """Files that make a checkpoint usable on its own: configuration and vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None:
            tokenizer.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return {"bert-config.json": model.bert.settings.to_json().encode(), **files}
