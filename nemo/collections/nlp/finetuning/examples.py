"""Examples for fine-tuning: sentences with labeled words, and labeled texts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """Words with a label each.

    Attributes:
        words: one or more.
        labels: one per word, in BIO: `O`, `B-<type>` or `I-<type>`.
        where: file and line it begins at, for errors.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    where: str

    @property
    def content(self) -> tuple[str, ...]:
        """What the model sees: two examples of the same content are one."""
        return self.words


@dataclass(frozen=True)
class LabeledText:
    """One text or two, and their label.

    Attributes:
        texts: one, or two for `--task pairs`.
        labels: the one label.
        where: file and line, for errors.
    """

    texts: tuple[str, ...]
    labels: tuple[str]
    where: str

    @property
    def content(self) -> tuple[str, ...]:
        """What the model sees: two examples of the same content are one."""
        return self.texts


Example = Sentence | LabeledText
