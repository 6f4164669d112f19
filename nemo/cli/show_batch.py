"""`nemo-bert show-batch INPUT`: show a few samples as the model sees them."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nemo.cli.terminal import FAINT, STRONG, make_console, print_labeled, safe
from nemo.collections.nlp.options.data import FixedMasking
from nemo.collections.nlp.options.limits import LONGEST_SEQUENCE
from nemo.collections.nlp.options.text_reading import ANY_TOKENIZER, TextReading
from nemo.utils.arguments import CommandLine, check, option
from nemo.utils.errors import UsageError
from nemo.utils.logging import logging
from nemo.utils.progress import working

if TYPE_CHECKING:
    from rich.text import Text

    from nemo.collections.nlp.data.inspection.samples import Sample, Token

TO_PREDICT, PIECE_MARK = "bold yellow", "·"


@dataclass(frozen=True)
class ShowBatchOptions(FixedMasking, TextReading):
    """The data, how to read it, and the samples to show."""

    input: str = option(
        "",
        "text (a file, folder or address), or prepared data: a folder, a token store, shards",
        is_path=True,
    )
    tokenizer: str | None = option(
        None,
        ANY_TOKENIZER,
        default_text="the one saved with prepared data",
        metavar="NAME_OR_PATH",
        is_path=True,
    )
    do_lower_case: bool | None = option(
        None,
        "lower-case the text (for a vocab.txt, which does not record it)",
        default_text="as the tokenizer records it, else off",
    )
    num_samples: int = option(
        4, "number of samples", at_least=1, at_most=1000, metavar="SAMPLES", aliases=("-n",)
    )
    max_seq_length: int = option(
        128,
        "maximum tokens in a sequence, including special tokens; shards have their own length",
        at_least=8,
        at_most=LONGEST_SEQUENCE,
        metavar="TOKENS",
    )
    seed: int = option(0, "seed of the samples and masks", at_least=0, below=2**63, metavar="INTEGER")
    json: bool = option(False, "print one JSON object instead of text")

    def __post_init__(self) -> None:
        check(self)
        if not self.input:
            raise UsageError("nothing to show", expected="nemo-bert show-batch FILE_OR_FOLDER --tokenizer T")


COMMAND_LINE = CommandLine(
    ShowBatchOptions,
    "nemo-bert show-batch",
    "Show a few samples as the model sees them, with masks, and the words to predict.",
    positional=("input",),
    examples="nemo-bert show-batch corpus/ --tokenizer my_bert --masking whole_word",
)


def run(argv: Sequence[str]) -> None:
    """Draw samples and print them."""
    options = COMMAND_LINE.parse(argv)
    with logging.temp_verbosity("WARNING"), working("drawing samples"):  # print only the samples
        from nemo.collections.nlp.data.inputs import TextOptions
        from nemo.collections.nlp.data.inspection.inspected import named_tokenizer
        from nemo.collections.nlp.data.inspection.samples import Drawing, draw_samples
        from nemo.collections.nlp.data.samples.sampling import Sampling

        sampling = Sampling(
            options.max_seq_length, options.masking, options.mask_probability, seed=options.seed
        )
        tokenizer = named_tokenizer(options.tokenizer, options.do_lower_case)
        samples = draw_samples(
            options.input, Drawing(options.num_samples, sampling), tokenizer, TextOptions.of(options)
        )
    if options.json:
        sys.stdout.write(json.dumps({"samples": [asdict(sample) for sample in samples]}) + "\n")
    else:
        print_samples(samples)


def print_samples(samples: Sequence["Sample"]) -> None:
    """Print each sample as the model sees it, with the tokens to predict."""
    from rich.text import Text

    console = make_console()
    console.print(Text(f"words are separated by spaces, the pieces of a word by {PIECE_MARK}", FAINT))
    for number, sample in enumerate(samples, start=1):
        follows = {None: "one text", False: "B follows A", True: "B is random"}[sample.is_random]
        num_targets = sum(token.is_target for token in (*sample.a, *sample.b))
        length = f"{sample.num_tokens} of {sample.max_seq_length} tokens"
        remarks = f"{follows}, {length}, {num_targets} to predict"
        console.print()
        console.print(Text.assemble((f"sample {number}", STRONG), (f"   {remarks}", FAINT)))
        sides = {"A": sample.a, "B": sample.b} if sample.b else {"A": sample.a}
        for name, tokens in sides.items():
            print_labeled(console, name, _spelled(tokens, is_masked=False))
        for name, tokens in sides.items():
            print_labeled(console, f"{name} masked", _spelled(tokens, is_masked=True))
        for label, words in _targets_by_kind([*sample.a, *sample.b]).items():
            print_labeled(console, label, words)


def _spelled(tokens: Sequence["Token"], is_masked: bool) -> "Text":
    """Tokens joined to words, with those to predict in color."""
    from rich.text import Text

    text = Text()
    for token in tokens:
        if text:
            text.append(" " if token.starts_word else PIECE_MARK, FAINT)
        text.append(safe(token.shown if is_masked else token.text), TO_PREDICT if token.is_target else "")
    return text


def _targets_by_kind(tokens: Sequence["Token"]) -> dict[str, str]:
    """The tokens to predict, by what the model sees instead: a mask, a random token, or the token itself."""
    from nemo.collections.nlp.data.inspection.samples import target_words

    by_kind: dict[str, list[str]] = {"masked": [], "replaced": [], "kept": []}
    for word in target_words(tokens):
        was = PIECE_MARK.join(safe(token.text) for token in word)
        shown = PIECE_MARK.join(safe(token.shown) for token in word)
        if all(token.is_masked for token in word):
            by_kind["masked"].append(was)
        elif was == shown:
            by_kind["kept"].append(was)
        else:
            by_kind["replaced"].append(f"{was} → {shown}")
    return {label: " | ".join(words) for label, words in by_kind.items() if words}
