"""Options of `nemo-bert pretrain TEXT...`: those of every pretraining run, and a few more."""

import os
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from nemo.collections.nlp.options.conflicts import conflict
from nemo.collections.nlp.options.data import MODES
from nemo.collections.nlp.options.pretraining import PretrainingOptions
from nemo.utils.arguments import check, default_in_words, names_of, option
from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

T = TypeVar("T", bound=PretrainingOptions)

MODEL_SIZES = ("tiny", "micro", "mini", "small", "base", "large")
CHOSEN = (
    *("tokenizer", "vocab_size", "do_lower_case"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_seq_length", "masking", "mask_probability", "only_mlm_loss", "nsp_weight"),
    *("initialization",),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "batch_size", "tokens_per_batch", "num_epochs"),
    *("optimizer", "lr", "lr_policy", "lr_warmup_proportion", "beta1", "beta2", "weight_decay"),
    *("grad_norm_clip", "amp_opt_level", "keep_best"),
    *("train_step_freq", "eval_step_freq", "save_step_freq", "save_epoch_freq"),
)
"""The options that the recipe chooses, for `--help`; see `recipe.decisions`."""
FOR_TEXT = "chosen for the text"


@dataclass(frozen=True)
class RecipeChoices:
    """Recipe."""

    size: str | None = option(
        None,
        "size of the model: tiny (2 layers x 128), micro (2 x 256), mini (4 x 256), small (4 x 512), base "
        "(12 x 768) or large (24 x 1024)",
        default_text="chosen to fit the text and the time",
        choices=MODEL_SIZES,
    )
    dry_run: bool = option(False, "print the table of choices and stop")


@dataclass(frozen=True)
class RecipeOptions(RecipeChoices, PretrainingOptions):
    """Text to train on, and options that override the recipe.

    With `data_text` or `data_preprocessed` among the texts, it is the tutorial's command: no recipe applies.

    Raises:
        UsageError: a value is out of range, or options contradict each other.
    """

    mode: str = option(PretrainingOptions.mode, "", decides="samples")  # given as a word among the texts
    texts: tuple[str, ...] = option(
        (),
        "text to train on: files, folders, addresses, or the output of nemo-bert prepare; options that are "
        "not given are chosen for it; or the word data_text or data_preprocessed, which uses NeMo 0.10's "
        "defaults",
        is_path=True,
        not_paths=MODES,
    )

    def __post_init__(self) -> None:
        modes = [text for text in self.texts if text in MODES]
        texts = tuple(text for text in self.texts if text not in MODES)
        if modes:
            object.__setattr__(self, "mode", modes[-1])  # options are frozen
            object.__setattr__(self, "texts", texts)
        if not texts:
            if modes and self.train_data is None and self.data_dir is None and os.path.exists(modes[-1]):
                raise UsageError(
                    "ambiguous: both a kind of data and the name of a file",
                    found=modes[-1],
                    fix=f"write ./{modes[-1]} to train on it, or give --train_data",
                )
            super().__post_init__()
            self._refuse_without_recipe("size")
            self._refuse_without_recipe("dry_run")
            return
        check(self)
        self._check_numbers_of_steps()
        for text in texts:
            if closest(text, MODES) and not os.path.exists(text):
                raise UsageError(
                    "no such text, and not a kind of data", found=repr(text), expected=" or ".join(MODES)
                )
        if modes:
            raise UsageError(
                "give either a text or data_text/data_preprocessed",
                found=f"{texts[0]} and {modes[-1]}",
                fix=f"leave out {modes[-1]} to have the other options chosen, or give the text as "
                f"--train_data; to train on a file of this name, write ./{modes[-1]}",
            )
        for name in ("bert_checkpoint", "load_dir", "config_file"):
            if self.size is not None and getattr(self, name) is not None:
                raise conflict("--size", f"--{name}", "both set the size of the model")
        for name in ("train_data", "data_dir"):
            if getattr(self, name) is not None:
                raise UsageError(
                    f"the text to train on is given twice, as an argument and as --{name}",
                    found=f"{texts[0]} and {getattr(self, name)}",
                    fix="give only one of them",
                )

    def _refuse_without_recipe(self, name: str) -> None:
        if getattr(self, name) != getattr(RecipeOptions, name):
            raise UsageError(
                "only available with the recipe",
                where=f"--{name}",
                expected="nemo-bert pretrain TEXT, without --train_data, --data_dir or a kind of data",
            )

    @property
    def typed(self) -> dict[str, Any]:
        """The options given on the command line or in the configuration file, with their values."""
        names = (self.given | self.given_in_file) - {"texts", *names_of(RecipeChoices)}
        return {name: getattr(self, name) for name in names}

    def as_pretraining_options(self) -> PretrainingOptions:
        """These options without the recipe's own."""
        values = {field.name: getattr(self, field.name) for field in fields(PretrainingOptions)}
        return with_given(PretrainingOptions(**values), self)


def defaults_with_text() -> dict[str, str]:
    """Option -> its default in words, for a command that takes a text or `data_text`."""
    in_words = {field.name: default_in_words(field) for field in fields(PretrainingOptions)}
    chosen = {name: f"{FOR_TEXT}; with data_text: {in_words[name] or 'off'}" for name in CHOSEN}
    return chosen | {
        "tokens_per_batch": f"{FOR_TEXT}; with data_text: --batch_size",
        "masking": f"{FOR_TEXT}; with data_text: whole_word; with data_preprocessed: stored",
        "num_epochs": f"{FOR_TEXT}; with data_text: 10 if nothing else ends the run",
        "minutes": "10 with a text, unless --num_iters or --num_epochs is given; with data_text: no limit",
        "eval_data": "the held-out files in the folder; without them, with a text, some of its documents",
        "work_dir": f"outputs/NAME_OF_THE_TEXT; with data_text: {in_words['work_dir']}",
    }


def with_given(options: T, source: PretrainingOptions) -> T:
    """`options`, with the record of what was given copied from `source`."""
    for name in ("given", "given_in_file"):
        object.__setattr__(options, name, getattr(source, name))  # options are frozen
    return options
