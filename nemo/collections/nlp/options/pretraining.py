"""Options of a pretraining run: defaults, ranges and conflicts.

Names and defaults are those of NeMo 0.10's script. This module must not import torch, to keep `--help` fast.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from nemo.collections.nlp.options.choices import MASKINGS
from nemo.collections.nlp.options.conflicts import conflict
from nemo.collections.nlp.options.data import MODES, DataOptions, MaskingOptions, TokenizerOptions
from nemo.collections.nlp.options.mask_rate import mask_rates
from nemo.collections.nlp.options.model import ModelOptions, WeightOptions
from nemo.collections.nlp.options.text_reading import TextReading
from nemo.collections.nlp.options.training import (
    LengthOptions,
    MachineOptions,
    OptimizerOptions,
    OutputOptions,
    ProcessOptions,
)
from nemo.utils.arguments import check
from nemo.utils.errors import UsageError
from nemo.utils.lr_policies import LR_POLICIES, parameters_of
from nemo.utils.step_plan import StepPlan

# Option -> argument of the policy, see `nemo.utils.lr_policies`.
SCHEDULE_PARAMETERS = {"lr_min": "min_lr", "lr_power": "power", "lr_hold": "hold_ratio"}


@dataclass(frozen=True)
class PretrainingOptions(
    DataOptions,
    TokenizerOptions,
    MaskingOptions,
    ModelOptions,
    WeightOptions,
    LengthOptions,
    OptimizerOptions,
    MachineOptions,
    OutputOptions,
    ProcessOptions,
    TextReading,
):
    """Model, data and training of a pretraining run.

    Raises:
        UsageError: a value is out of range, or options contradict each other.
    """

    # Names of the options given on the command line, and in a configuration file.
    given: ClassVar[frozenset[str]] = frozenset()
    given_in_file: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        check(self)
        if self.mode not in MODES:
            raise UsageError("unknown kind of data", found=repr(self.mode), expected=" or ".join(MODES))
        mask_rates(self.mask_probability)
        self._check_options_of_mode()
        if self.num_epochs is not None and self.num_iters != -1:
            raise conflict("--num_epochs", "--num_iters")
        if self.tokens_per_batch is not None and self.batch_size != PretrainingOptions.batch_size:
            raise conflict("--tokens_per_batch", "--batch_size")
        if self.load_dir is not None and self.bert_checkpoint is not None:
            raise conflict("--load_dir", "--bert_checkpoint")
        if self.initialization == "counts" and self.bert_checkpoint is not None:
            raise conflict("--initialization counts", "--bert_checkpoint", "one would overwrite the other")
        for name, value in (("amp_opt_level", "O2"), ("optimizer", "muon")):
            if self.shard and getattr(self, name) == value:
                raise conflict("--shard", f"--{name} {value}")
        self._check_schedule()
        if "none" in self.tracker and len(self.tracker) > 1:
            raise conflict("--tracker none", "other trackers")
        if self.step_plan is not None:
            StepPlan.parse(self.step_plan)
        self._check_numbers_of_steps()
        # Sizes may also come from a file or checkpoint; then the defaults here do not apply yet.
        has_sizes = not (self.config_file or self.load_dir or self.bert_checkpoint)
        if has_sizes and self.hidden_size % self.num_attention_heads:
            raise UsageError(
                "the hidden size is not divisible by the number of heads",
                where="--num_attention_heads",
                found=f"{self.num_attention_heads} heads for --hidden_size {self.hidden_size}",
                expected=f"one of {', '.join(str(d) for d in _divisors(self.hidden_size))}",
            )
        positions = self.max_position_embeddings or self.max_seq_length
        if has_sizes and self.mode == "data_text" and positions < self.max_seq_length:
            raise UsageError(
                "fewer positions than a sequence has tokens",
                where="--max_position_embeddings",
                found=positions,
                expected=f"{self.max_seq_length} or more, as --max_seq_length",
            )
        if self.train_data is None and self.data_dir is None:
            raise UsageError("no training data", expected="--train_data FILE_OR_FOLDER, or --data_dir FOLDER")

    def _check_numbers_of_steps(self) -> None:
        """Check options for which -1 has a meaning of its own and 0 has none."""
        if self.num_iters != -1 and self.num_iters < 1:
            raise UsageError("out of range", where="--num_iters", found=self.num_iters, expected="1 or more")
        for name in ("eval_step_freq", "save_step_freq", "save_epoch_freq"):
            value = getattr(self, name)
            if value != -1 and value < 1:
                off = "only at the end" if name == "eval_step_freq" else "never"
                raise UsageError(
                    "out of range", where=f"--{name}", found=value, expected=f"1 or more, or -1 for {off}"
                )
        if self.patience is not None and self.eval_step_freq == -1:
            raise conflict("--patience", "--eval_step_freq -1", "there is only one evaluation to count")

    def _check_schedule(self) -> None:
        """Refuse parameters that the learning-rate schedule does not have."""
        for option, name in SCHEDULE_PARAMETERS.items():
            if getattr(self, option) is None:
                continue
            if self.lr_policy is None or name not in parameters_of(self.lr_policy):
                raise UsageError(
                    "the schedule has no such parameter",
                    where=f"--{option}",
                    found=f"--lr_policy {self.lr_policy}" if self.lr_policy else "a constant learning rate",
                    expected="--lr_policy " + ", ".join(p for p in LR_POLICIES if name in parameters_of(p)),
                )

    def _check_options_of_mode(self) -> None:
        """Refuse options that have no effect on this kind of data."""
        for field in dataclasses.fields(self):
            mode = field.metadata["only_for"]
            if mode not in (None, self.mode) and getattr(self, field.name) != field.default:
                raise UsageError(
                    f"only for {mode}, but the data is {self.mode}",
                    where=f"--{field.name}",
                    fix=f"leave it out, or add {mode} after the options",
                )
        if self.mode == "data_text" and self.masking == "stored":
            raise UsageError(
                "no masks are stored in text",
                where="--masking stored",
                expected=", ".join(MASKINGS),
            )
        if self.draws_no_masks and self.mask_probability != PretrainingOptions.mask_probability:
            raise UsageError(
                "the masks are already in the shards",
                where="--mask_probability",
                found=self.mask_probability,
                fix="leave it out, or draw new masks: --masking whole_word",
            )
        if self.mode == "data_preprocessed" and self.initialization == "counts":
            raise UsageError(
                "needs text to count words in, but the data is data_preprocessed",
                where="--initialization counts",
                fix="leave it out, or add data_text after the options",
            )
        if self.mode == "data_preprocessed" and self.tokenizer == "word-piece":
            raise UsageError(
                "no tokenizer can be trained on shards",
                where="--tokenizer word-piece",
                expected="the folder, name or vocab.txt of the tokenizer that made them, or no --tokenizer",
                fix="if the data is text, add data_text after the options",
            )

    @property
    def draws_no_masks(self) -> bool:
        """Whether it trains on shards with their stored masks."""
        return self.mode == "data_preprocessed" and self.masking in (None, "stored")

    @property
    def steps(self) -> int | None:
        """The number of steps in the run; None if epochs or minutes end it."""
        if self.num_iters != -1:
            return self.num_iters
        return 100 if self._has_no_end and self.mode == "data_preprocessed" else None

    @property
    def epochs(self) -> int | None:
        """The number of epochs in the run; None if steps or minutes end it."""
        if self.minutes is not None:
            return None
        return 10 if self._has_no_end and self.mode == "data_text" else self.num_epochs

    @property
    def _has_no_end(self) -> bool:
        return self.num_epochs is None and self.num_iters == -1 and self.minutes is None


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
