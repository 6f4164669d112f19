"""The settings for drawing samples, one object from the options to the batch."""

from dataclasses import dataclass, replace

from nemo.collections.nlp.data.samples.sequences import MIN_SEQ_LENGTH
from nemo.collections.nlp.options.choices import MASKINGS, STORED
from nemo.collections.nlp.options.mask_rate import mask_rates
from nemo.collections.nlp.options.pretraining import PretrainingOptions
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

MASK_PROBABILITY = 0.15


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn from a token store, or read from shards.

    Attributes:
        max_seq_length: T, tokens in a sample, including special tokens; 8 or more. None: that of the shards.
        masking: the unit of masking, "whole_word", "token" or "span", see `Masking`; "stored": the masks in
            the shards. None: "whole_word" for text, "stored" for shards.
        mask_probability: share of a sample's tokens to predict, between 0 and 1. None: 0.15 if masks are
            drawn.
        short_seq_prob: share of documents with shorter pairs, drawn again in each epoch.
        seed: seed of pairs, masks and order; 0 or more.

    Raises:
        UsageError: a value is out of range.
    """

    max_seq_length: int | None = 128
    masking: str | None = None
    mask_probability: float | None = None
    short_seq_prob: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        length, probability = self.max_seq_length, self.mask_probability
        _check("max_seq_length", length, length is None or length >= MIN_SEQ_LENGTH, "8 or more")
        _check("mask_probability", probability, probability is None or 0 < probability < 1, "0 < p < 1")
        _check("short_seq_prob", self.short_seq_prob, 0 <= self.short_seq_prob <= 1, "0 <= p <= 1")
        _check("seed", self.seed, 0 <= self.seed < 2**63, "0 or more")
        if self.masking is not None:
            choose({name: name for name in (STORED, *MASKINGS)}, self.masking, what="masking")

    @classmethod
    def of(cls, options: PretrainingOptions) -> "Sampling":
        """The options of a pretraining run."""
        # Held-out text is masked at the last rate.
        probability = None if options.draws_no_masks else mask_rates(options.mask_probability)[1]
        return cls(options.max_seq_length, options.masking, probability, options.short_seq_prob, options.seed)

    def of_text(self) -> "Sampling":
        """Fill in the defaults for text. Raises a UsageError for stored masks, which text does not have."""
        if self.masking == STORED:
            raise UsageError(
                "only shards have stored masks", where="masking", found=STORED, expected=", ".join(MASKINGS)
            )
        return replace(
            self,
            masking=self.masking or "whole_word",
            mask_probability=self.mask_probability or MASK_PROBABILITY,
        )

    def of_shards(self) -> "Sampling":
        """Fill in the defaults for shards. Raises a UsageError for stored masks with a mask probability."""
        masking = self.masking or STORED
        if masking == STORED and self.mask_probability is not None:
            raise UsageError(
                "the masks are already in the shards",
                where="mask_probability",
                found=self.mask_probability,
                fix='leave it out, or draw new masks: pass masking="whole_word"',
            )
        return replace(self, masking=masking, mask_probability=self.mask_probability or MASK_PROBABILITY)


def _check(name: str, value: float | None, is_right: bool, expected: str) -> None:
    if not is_right:
        raise UsageError("out of range", where=name, found=value, expected=expected)
