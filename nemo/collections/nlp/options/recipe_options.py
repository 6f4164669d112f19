"""The options of `nemo-bert pretrain TEXT...`: those of every pretraining run, and a few for it alone."""

import os
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from nemo.collections.nlp.options.data import MODES
from nemo.collections.nlp.options.pretraining import PretrainingOptions
from nemo.utils.arguments import check, option
from nemo.utils.errors import UsageError
from nemo.utils.lookup import closest

T = TypeVar("T", bound=PretrainingOptions)

SIZES = ("tiny", "mini", "small", "base", "large")


@dataclass(frozen=True)
class RecipeOptions(PretrainingOptions):
    """Text to train on, and options that override the recipe.

    A mode word among the texts means the tutorial's form of the command, in which nothing is chosen.

    Raises:
        UsageError: a value out of its range, or options that contradict each other.
    """

    mode: str = option(PretrainingOptions.mode, "", decides="samples")  # a word among the texts says so
    texts: tuple[str, ...] = option(
        (),
        "text to train on: files, folders, addresses, or the output of nemo-bert prepare; everything that is "
        "not given is chosen. data_text or data_preprocessed in its place chooses nothing, as in NeMo 0.10",
        is_path=True,
        not_paths=MODES,
    )
    size: str | None = option(
        None,
        "size of the model: tiny (2 layers x 128), mini (4 x 256), small (4 x 512), base (12 x 768) or large "
        "(24 x 1024)",
        default_text="chosen by text and time",
        choices=SIZES,
    )
    dry_run: bool = option(False, "print the table of choices and stop")

    def __post_init__(self) -> None:
        modes = [text for text in self.texts if text in MODES]
        texts = tuple(text for text in self.texts if text not in MODES)
        if modes:
            object.__setattr__(self, "mode", modes[-1])  # options are frozen
            object.__setattr__(self, "texts", texts)
        if not texts:
            if modes and self.train_data is None and self.data_dir is None and os.path.exists(modes[-1]):
                raise UsageError(
                    "a kind of data, but also the name of a file",
                    found=modes[-1],
                    fix=f"write ./{modes[-1]} to train on it, or give --train_data",
                )
            super().__post_init__()
            self._refuse_alone("size")
            self._refuse_alone("dry_run")
            return
        check(self)
        for text in texts:
            if closest(text, MODES) and not os.path.exists(text):
                raise UsageError(
                    "neither a text nor a kind of data", found=repr(text), expected=" or ".join(MODES)
                )
        if modes:
            raise UsageError(
                "both a text and a kind of data",
                found=f"{texts[0]} and {modes[-1]}",
                fix=f"leave {modes[-1]} out and the rest is chosen, or give the text as --train_data; "
                f"a file of this name is ./{modes[-1]}",
            )
        for name in ("bert_checkpoint", "load_dir", "config_file"):
            if self.size is not None and getattr(self, name) is not None:
                raise UsageError(
                    f"--size contradicts --{name}, whose model has a size of its own", fix="give one of them"
                )
        for name in ("train_data", "data_dir"):
            if getattr(self, name) is not None:
                raise UsageError(
                    f"the text to train on is given twice, by itself and as --{name}",
                    found=f"{texts[0]} and {getattr(self, name)}",
                    fix="give one of them",
                )

    def _refuse_alone(self, name: str) -> None:
        if getattr(self, name) != getattr(RecipeOptions, name):
            raise UsageError(
                "only available when a recipe chooses",
                where=f"--{name}",
                expected="nemo-bert pretrain TEXT, without --train_data, --data_dir and a kind of data",
            )

    @property
    def typed(self) -> dict[str, Any]:
        """What the command line and the configuration file say."""
        names = (self.given | self.given_in_file) - {"texts", "size", "dry_run"}
        return {name: getattr(self, name) for name in names}

    def as_pretraining_options(self) -> PretrainingOptions:
        """The same without what only a recipe heeds."""
        values = {field.name: getattr(self, field.name) for field in fields(PretrainingOptions)}
        return with_given(PretrainingOptions(**values), self)


def with_given(options: T, source: PretrainingOptions) -> T:
    """The options, which know what was given as `source` does."""
    for name in ("given", "given_in_file"):
        object.__setattr__(options, name, getattr(source, name))  # options are frozen
    return options
