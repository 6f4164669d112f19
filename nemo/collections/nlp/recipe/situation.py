"""What the rules of a recipe read and return: a situation, the decisions so far, and a decision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nemo.backends.pytorch.machine import Machine
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.recipe.constants import CHARACTERS_PER_TOKEN
from nemo.collections.nlp.recipe.cost import tokens_in
from nemo.collections.nlp.recipe.text_facts import TextFacts


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        about: its subject, one or two words.
        value: the choice, in words.
        reason: why it was made.
        options: the options that it sets.
    """

    about: str
    value: str
    reason: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Situation:
    """What decisions depend on.

    Attributes:
        typed: the given options, which take precedence.
        size: `--size`.
        given_sizes: layers, width and vocabulary of the initial checkpoint; None without one.
    """

    text: TextFacts
    machine: Machine
    typed: Mapping[str, Any]
    size: str | None = None
    given_sizes: tuple[int, int, int] | None = None


class Pick:
    """A situation, and the decisions so far."""

    def __init__(self, situation: Situation, known: Mapping[str, Any]):
        self.situation, self.text, self.machine = situation, situation.text, situation.machine
        self.typed, self._known = situation.typed, known

    def __call__(self, name: str) -> Any:
        """The option's current value: given, chosen, or NeMo 0.10's default."""
        default = getattr(PretrainingOptions, name)
        return self.typed.get(name, self._known.get(name, default))

    def merged(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Chosen options, of which given ones are replaced."""
        return {name: self.typed.get(name, chosen) for name, chosen in options.items()}

    def decision(self, about: str, value: str, reason: str, options: Mapping[str, Any]) -> Decision:
        """A decision, in which given options replace chosen ones.

        Args:
            value: describes the merged options.
            reason: of those that are not given; "" if there is none.
        """
        given = [name for name in options if name in self.typed]
        values = ", ".join(f"--{name} {self.typed[name]}" for name in given)
        if given and len(given) == len(options):
            value, reason = values, "given"
        elif given:
            reason = "; ".join(filter(None, (f"{values} given", reason)))
        return Decision(about, value, reason, self.merged(options))

    @property
    def starts_from_model(self) -> bool:
        return self.typed.get("bert_checkpoint") is not None or self.typed.get("load_dir") is not None

    @property
    def shape(self) -> tuple[int, int]:
        """Layers and width of the model."""
        if self.situation.given_sizes is not None:
            return self.situation.given_sizes[:2]
        return self("num_hidden_layers"), self("hidden_size")

    @property
    def run_tokens(self) -> float:
        """Approximate number of tokens that the run will see."""
        vocabulary = self.situation.given_sizes[2] if self.situation.given_sizes else self("vocab_size")
        minutes = self("minutes")
        if minutes is None:
            return self.tokens_of_steps()
        in_time = tokens_in(minutes, self.machine, *self.shape, vocabulary)
        return in_time if self("num_epochs") is None else min(in_time, self("num_epochs") * self.text_tokens)

    def tokens_of_steps(self, in_batch: float | None = None) -> float:
        """Tokens of the given steps or epochs; `in_batch`: of a batch, before its size is decided."""
        if self("num_iters") != -1:
            per_batch = self("tokens_per_batch") or in_batch or self("batch_size") * self("max_seq_length")
            return self("num_iters") * self("batches_per_step") * per_batch
        return (self("num_epochs") or 1) * self.text_tokens

    @property
    def text_tokens(self) -> float:
        """Approximate number of tokens in a pass over the text."""
        if self.text.tokens is not None:
            return self.text.tokens
        han = dict(self.text.scripts).get("Han", 0.0)
        rate = CHARACTERS_PER_TOKEN["Han"] if han > 0.5 else CHARACTERS_PER_TOKEN["others"]
        return max(1.0, (self.text.characters or self.text.num_bytes) / rate)
