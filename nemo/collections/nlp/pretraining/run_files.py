"""What a run writes down of itself: its options, its model, its surroundings."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.nm.pretraining_model import PretrainingModel
from nemo.collections.nlp.pretraining.about import about
from nemo.collections.nlp.pretraining.setup import Run, as_options
from nemo.core import (
    ActionCallback,
)
from nemo.utils.arguments import as_config
from nemo.utils.progress import working
from nemo.utils.refusal import AsItWas
from nemo.utils.step_plan import StepPlan


class RunFiles(ActionCallback):
    """Writes down what the run is, once it is clear that the work folder is not another run's.

    Args:
        before: what the work folder was before.
        remarks: lines that `config.yaml` begins with, as comments.
    """

    def __init__(self, run: Run, experiment: Any, before: AsItWas, num_processes: int, remarks: str):
        self.run, self.experiment, self.before = run, experiment, before
        self.num_processes, self.remarks = num_processes, remarks

    def on_action_start(self) -> None:
        self.before.begins()
        if self.global_rank != 0:
            return
        self.write(self.run.plan)
        self.run.model.bert.config.to_json_file(self.experiment.checkpoint_dir / "bert-config.json")
        with working("looking at the text"):
            facts = about(self.run.options, self.run.data, self.run.model, self.num_processes)
        self.experiment.write_json("about.json", facts)

    def write(self, plan: StepPlan) -> None:
        """Write the options down, with the steps as they are planned now."""
        is_known = plan.is_settled or self.run.options.num_iters != -1
        steps = as_options(plan) if is_known else {}
        config = as_config(dataclasses.replace(self.run.options, **steps))
        self.experiment.write_config(config, self.remarks)


def checkpoint_files(model: PretrainingModel, tokenizer: TokenizerSpec | None) -> dict[str, bytes]:
    """What a checkpoint carries along, so that it can be used by itself: configuration and vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        if tokenizer is not None:
            tokenizer.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return {"bert-config.json": model.bert.config.to_json_string().encode(), **files}
