"""Figures -> advice before training: what is unusual, its effect, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from nemo.collections.nlp.data.inspection.characters import REPLACEMENT
from nemo.collections.nlp.data.inspection.language import name_of
from nemo.collections.nlp.data.inspection.stored import StoreFigures
from nemo.collections.nlp.data.inspection.text import TextFigures
from nemo.collections.nlp.data.inspection.tokens import PairFigures
from nemo.collections.nlp.data.samples.pairs import warning_of_few_documents
from nemo.collections.nlp.data.tokenizers.suitability import warning_of_lost_marks, warning_of_unknown

FEW_CHARS = 5_000_000
MANY_SINGLE = 0.5  # of the documents
MANY_COPIES = 0.01  # of the documents
MANY_REPEATS = 0.1  # of the paragraphs: headlines and formulas of a wiki are 2%
MIXED_LANGUAGES = 0.1
MIXED_SCRIPTS = 0.2
MUCH_MARKUP = 0.05  # of the paragraphs
MANY_ROWS = 0.5  # of the paragraphs
LONG_SENTENCE = 1500  # characters: too long for a sequence of 512 tokens that also holds another sentence
MANY_PIECES = 2.2  # in a word
MUCH_PADDING = 0.4


@dataclass(frozen=True)
class Advice:
    """A finding that may need attention.

    Attributes:
        code: its name in JSON output.
        text: one or two sentences.
    """

    code: str
    text: str


def advice_on_text(figures: TextFigures) -> list[Advice]:
    """Advice on a text."""
    return [Advice(code, text) for code, text in _on_text(figures)]


def advice_on_store(figures: StoreFigures) -> list[Advice]:
    """Advice on a token store."""
    found = [
        *_on_documents(figures.one_sentence_share),
        *_on_vocabulary(figures.unknown_share, figures.pieces_per_word),
        *_on_pairs(figures.pairs),
    ]
    return [Advice(code, text) for code, text in found]


def _on_text(figures: TextFigures) -> Iterator[tuple[str, str]]:
    if figures.characters < FEW_CHARS:
        yield (
            "little_text",
            f"only {figures.characters:,} characters: a BERT trained on them from scratch learns "
            "little more than token frequencies. Add text, or start from pretrained weights "
            "(--bert_checkpoint).",
        )
    if few := warning_of_few_documents(figures.documents):
        yield "few_documents", few
    yield from _on_documents(figures.one_sentence_share)
    if figures.sentence_chars[1] > LONG_SENTENCE:
        yield (
            "long_sentences",
            f"a tenth of the sentences have more than {figures.sentence_chars[1]:,} characters: their ends "
            "may have been missed (--sentences).",
        )
    if figures.repeated_documents > MANY_COPIES:
        yield (
            "repeated_documents",
            f"{figures.repeated_documents:.1%} of the documents are copies of earlier ones, which a "
            "model memorizes: nemo-bert prepare --remove_duplicates drops them.",
        )
    if figures.repeated_paragraphs > max(MANY_REPEATS, 2 * figures.repeated_documents):
        yield (
            "repeated_paragraphs",
            f"{figures.repeated_paragraphs:.0%} of the paragraphs are repeated, usually menus, "
            "notices or templates: better remove them.",
        )
    yield from _on_characters(figures)
    if figures.tokens is not None:
        tokens = figures.tokens
        yield from _on_vocabulary(tokens.unknown_share, tokens.pieces_per_word, tokens.is_uncased)
        if lost := warning_of_lost_marks(tokens.lost_marks):
            yield "lost_marks", lost
        yield from _on_pairs(figures.tokens.pairs)


def _on_documents(one_sentence_share: float) -> Iterator[tuple[str, str]]:
    if one_sentence_share > MANY_SINGLE:
        yield (
            "documents_too_short_for_pairs",
            f"documents too short for sentence pairs: {one_sentence_share:.0%} of them are a single "
            "sentence. Check where documents end (--text_layout), or train without "
            "next-sentence prediction (--only_mlm_loss).",
        )


def _on_characters(figures: TextFigures) -> Iterator[tuple[str, str]]:
    odd = dict(figures.odd_characters)
    damaged = odd.pop(REPLACEMENT, 0) - figures.removed.replaced_bytes
    if damaged > 0:
        yield (
            "replacement_characters",
            f"{damaged:,} character(s) are U+FFFD: the characters were lost when the text was read "
            "in a wrong encoding. Look for the original.",
        )
    if mended := list(figures.removed.tell()):
        yield (
            "mended_text",
            f"some of the text was repaired while reading: {', '.join(mended)}. "
            "Check that nothing is missing.",
        )
    if odd:
        named = ", ".join(f"U+{ord(c):04X}" for c in list(odd)[:5])
        yield (
            "control_characters",
            f"{sum(odd.values()):,} character(s) are not text ({named}): remove them.",
        )
    if figures.markup_share > MUCH_MARKUP:
        yield (
            "markup",
            f"{figures.markup_share:.0%} of the paragraphs have tags or entities of HTML, which a model "
            "would learn to write: clean them first.",
        )
    if figures.table_share > MANY_ROWS:
        yield (
            "table",
            f"{figures.table_share:.0%} of the lines have tabs: this looks like a table, such as CoNLL's, "
            "and its columns would be learned as text.",
        )
    languages = list(figures.languages.items())
    scripts = list(figures.scripts.items())
    if len(languages) > 1 and languages[1][1] > MIXED_LANGUAGES:
        named = ", ".join(f"{name_of(code)} {share:.0%}" for code, share in languages[:3])
        yield "mixed_languages", f"several languages ({named}): use a larger vocabulary (--vocab_size)."
    elif len(scripts) > 1 and scripts[1][1] > MIXED_SCRIPTS:
        named = ", ".join(f"{script} {share:.0%}" for script, share in scripts[:3])
        yield "mixed_scripts", f"several scripts ({named}): use a larger vocabulary (--vocab_size)."


def _on_vocabulary(
    unknown_share: float, pieces_per_word: float, is_uncased: bool = False
) -> Iterator[tuple[str, str]]:
    if unknown := warning_of_unknown(unknown_share, is_uncased):
        yield "unknown_tokens", unknown
    if pieces_per_word > MANY_PIECES:
        yield (
            "many_pieces",
            f"words are split into {pieces_per_word:.1f} pieces: the vocabulary is too small, or was "
            "trained on other text (nemo-bert tokenizer trains one).",
        )


def _on_pairs(pairs: dict[int, PairFigures]) -> Iterator[tuple[str, str]]:
    if not pairs:
        yield "no_pairs", "no sentence pairs can be made: no document has two sentences."
    wasteful = {length: p.padding_share for length, p in pairs.items() if p.padding_share > MUCH_PADDING}
    if wasteful:
        named = ", ".join(f"{share:.0%} at length {length}" for length, share in wasteful.items())
        yield (
            "padding",
            f"much of every batch would be padding ({named}): documents are short, so shorter sequences "
            "(--max_seq_length) lose nothing.",
        )
