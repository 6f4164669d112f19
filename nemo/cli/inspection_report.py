"""The output of `nemo-bert inspect`: a report, or JSON."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nemo.cli.terminal import (
    FAINT,
    STRONG,
    WARNING,
    cut,
    make_console,
    print_bars,
    print_labeled,
    safe,
)
from nemo.collections.nlp.data.inspection import Inspected
from nemo.collections.nlp.data.inspection.counts import LENGTHS
from nemo.collections.nlp.data.inspection.language import name_of
from nemo.collections.nlp.data.inspection.stored import ShardFigures, StoreFigures
from nemo.collections.nlp.data.inspection.text import TextFigures, TokenFigures
from nemo.collections.nlp.data.inspection.tokens import PairFigures
from nemo.utils.wording import quantity

if TYPE_CHECKING:
    from rich.console import Console

MOST_REPEATED, MOST_CHARACTERS, MOST_SHARES = 3, 12, 6
LEAST_SHARE = 0.005
MOST_WORD_CHARS = 20


def as_json(results: Sequence[Inspected]) -> dict[str, Any]:
    """One result as an object; several as the contents of a prepared folder."""
    if len(results) > 1:
        return {"kind": "prepared", "contents": [as_json([each]) for each in results]}
    (result,) = results
    warnings = [asdict(advice) for advice in result.advice]
    return {"kind": result.kind, "path": result.path, **asdict(result.figures), "warnings": warnings}


def print_report(results: Sequence[Inspected]) -> None:
    """Print the statistics and warnings of each result."""
    console = make_console()
    for result in results:
        console.print()
        if isinstance(result.figures, TextFigures):
            _print_text(console, result.path, result.figures)
        elif isinstance(result.figures, StoreFigures):
            _print_store(console, result.path, result.figures)
        else:
            _print_shards(console, result.path, result.figures)
        if result.advice:
            console.print()
        for advice in result.advice:
            print_labeled(console, "warning", advice.text, WARNING)
    console.print()


def _print_title(console: "Console", path: str, kind: str) -> None:
    from rich.text import Text

    console.print(Text.assemble((safe(path), STRONG), (f"   {kind}", FAINT)), soft_wrap=True)
    console.print()


def _print_text(console: "Console", path: str, figures: TextFigures) -> None:
    _print_title(console, path, "text")
    formats = "; ".join(f"{quantity(number, 'file')} of {kind}" for kind, number in figures.formats.items())
    is_all = figures.sample_share == 1
    median, ninth, longest = figures.sentence_chars
    rows = {
        "files": f"{_megabytes(figures.bytes):<14} {formats}",
        "documents": f"{figures.documents:<14,} {_copies(figures.repeated_documents)}",
        "paragraphs": f"{figures.paragraphs:<14,} {_copies(figures.repeated_paragraphs)}",
        "sentences": f"{_about(figures.sentences, is_all):<14} median {median:,} characters, "
        f"90% up to {ninth:,}, longest {longest:,}",
        "words": f"{figures.words:<14,} separated by spaces",
        "characters": f"{figures.characters:<14,} {figures.different_characters:,} different",
        "scripts": _shares(figures.scripts),
        "languages": _shares({name_of(code): share for code, share in figures.languages.items()}),
    }
    if figures.characters > MOST_WORD_CHARS * figures.words:  # the script has no spaces between words
        del rows["words"]
    for label, value in rows.items():
        print_labeled(console, label, value)
    _print_lengths(console, "characters", figures.documents_by_length, figures.chars_by_length)
    if figures.most_repeated:
        console.print()
        for text, times in figures.most_repeated[:MOST_REPEATED]:
            print_labeled(console, f"{times:,} times", cut(text))
    if figures.tokens is not None:
        console.print()
        _print_tokens(console, figures.tokens, is_all)


def _print_tokens(console: "Console", tokens: TokenFigures, is_all: bool) -> None:
    named = [f"{safe(c)} {times:,}" for c, times in tokens.unknown_characters.items()]
    more = f", {len(named) - MOST_CHARACTERS} more" if len(named) > MOST_CHARACTERS else ""
    rows = {
        "tokens": f"{_about(tokens.tokens, is_all):<14} {tokens.chars_per_token:.2f} characters each, "
        f"{tokens.pieces_per_word:.2f} pieces per word, with {tokens.vocab_size:,} vocabulary entries",
        "unknown": f"{tokens.unknown_share:<14.2%} "
        + (", ".join(named[:MOST_CHARACTERS]) + more if named else "every character is known"),
        **_pair_rows(tokens.unigram_entropy, tokens.pairs),
    }
    for label, value in rows.items():
        print_labeled(console, label, value)


def _pair_rows(entropy: float, pairs: dict[int, PairFigures]) -> dict[str, str]:
    described = (
        f"{p.padding_share:.0%} padding, {p.random_share:.0%} random at length {length}"
        for length, p in pairs.items()
    )
    return {
        "entropy": f"{f'{entropy:.2f} nats':<14} per token: the loss of a model that knows only frequencies",
        "pairs": "; ".join(described) or "none possible",
    }


def _print_store(console: "Console", path: str, figures: StoreFigures) -> None:
    _print_title(console, path, "token store")
    median, ninth, longest = figures.sentence_tokens
    rows = {
        "documents": f"{figures.documents:,}",
        "sentences": f"{figures.sentences:<14,} median {median:,} tokens, "
        f"90% up to {ninth:,}, longest {longest:,}",
        "tokens": f"{figures.tokens:<14,} {figures.pieces_per_word:.2f} pieces per word",
        "unknown": f"{figures.unknown_share:.2%}",
        **_pair_rows(figures.unigram_entropy, figures.pairs),
    }
    for label, value in rows.items():
        print_labeled(console, label, value)
    _print_lengths(console, "tokens", figures.documents_by_length)


def _print_shards(console: "Console", path: str, figures: ShardFigures) -> None:
    _print_title(console, path, "HDF5 shards")
    specials = {"[CLS]": figures.cls_id, "[SEP]": figures.sep_id, "[MASK]": figures.mask_id}
    named = ", ".join(f"{token} {number}" for token, number in specials.items() if number is not None)
    random = "no labels" if figures.random_share is None else f"{figures.random_share:.0%}"
    rows = {
        "training": f"{f'{figures.rows:,} rows':<14} in {quantity(figures.shards, 'shard')}, "
        f"{_megabytes(figures.bytes)}",
        "held out": f"{f'{figures.held_out_rows:,} rows':<14} "
        f"in {quantity(figures.held_out_shards, 'shard')}",
        "a row": f"{f'{figures.seq_length} tokens':<14} at most {figures.max_predictions or '?'} targets",
        "padding": f"{figures.padding_share:.0%}",
        "random pairs": random,
        "specials": named,
        "tokenizer": "the one that made them"
        if figures.fits_tokenizer
        else "not available (give --tokenizer)",
    }
    for label, value in rows.items():
        print_labeled(console, label, value)


def _print_lengths(
    console: "Console",
    unit: str,
    documents: dict[int, int] | dict[int, float],
    chars: dict[int, int] | None = None,
) -> None:
    """A histogram of document lengths, with each length's share of the text."""
    from rich.text import Text

    console.print()
    console.print(Text(f"documents by length in {unit}", "cyan"))
    total, total_chars = sum(documents.values()), sum(chars.values()) if chars else 1
    stops = dict(itertools.pairwise(LENGTHS))
    rows = []
    for start, number in documents.items():
        label = f"{start:,} to {stops[start] - 1:,}" if start in stops else f"{start:,} or more"
        remark = f"{chars[start] / total_chars:.1%} of the text" if chars else ""
        rows.append((label, number / total, remark))
    print_bars(console, rows)


def _copies(share: float) -> str:
    return f"{share:.1%} are copies of earlier ones" if share else "no duplicates"


def _about(number: int, is_exact: bool) -> str:
    """A number; an estimate is rounded to three digits."""
    if is_exact or number < 1000:
        return f"{number:,}"
    unit = 10 ** (len(str(number)) - 3)
    return f"about {round(number / unit) * unit:,}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def _shares(shares: dict[str, float]) -> str:
    """The largest shares, without those too small to be reliable."""
    named = [f"{name} {share:.0%}" for name, share in shares.items() if share >= LEAST_SHARE]
    return ", ".join(named[:MOST_SHARES]) or "none"
