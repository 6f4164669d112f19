"""Punkt (Kiss and Strunk 2006): sentence splitting, learned from an excerpt of the corpus.

NLTK trains it and decides; this module caches the decisions to make it fast. NLTK decides every full stop
anew, by the words before and after it. But after most words a sentence ends whatever follows, and the
exceptions (abbreviations, initials, numbers, parts of collocations) fall into a few kinds.
"""

import re
from collections import Counter
from functools import cached_property
from typing import Any

from nemo.collections.nlp.data.text.nltk_punkt import nltk_punkt

_SPACE, _NO_SPACE = r"[^\S\x1c-\x1f]", r"[\S\x1c-\x1f]"  # as in NLTK
_MARK = r"[)\";}\]*:@'({\[‘’“”«»!?]"  # never part of a word
# NLTK's candidates, followed by a mark (1), or by white space and a word (2). An odd word (3) is judged
# together with the text before it: it may begin with a full stop that continues an ellipsis, or not be a word
# at all.
_ODD = r"[.\x1c-\x1f]"
_CANDIDATE = re.compile(rf"[.?!](?=({_MARK})|{_SPACE}+(?:((?!{_ODD}){_NO_SPACE}+)|({_ODD}{_NO_SPACE}*)))")
_BY_ODD_WORD = 3
_LAST_WORD = re.compile(rf"(?s:.*{_MARK})?(\w*)\.")
_CLOSING = "\"')]}‘’“”«»"  # belongs to the sentence before it
_CLOSED = re.compile(rf"[{re.escape(_CLOSING)}]+?(?:{_SPACE}+|(?=--)|$)", re.MULTILINE)
_REMEMBERED = 100_000  # cached decisions of each kind: a few dozen MB
_ENDS = {"": True}  # the decisions for words that end a sentence whatever follows


class Punkt:
    """Splits a paragraph into the sentences that NLTK's Punkt finds with the same parameters.

    Args:
        parameters: learned by `train_punkt`: "abbreviations", "collocations", "sentence_starters" and
            "contexts" (word -> NLTK's flags for where it occurred), JSON-serializable.
    """

    def __init__(self, parameters: dict[str, Any]):
        self.parameters = parameters
        self._abbreviations = set(parameters["abbreviations"])
        self._first_words = {first for first, _ in parameters["collocations"]}
        self._by_word: dict[str, dict[str, bool]] = {}
        self._by_state: dict[Any, dict[str, bool]] = {}
        self._by_odd_word: dict[str, bool] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Punkt, (self.parameters,)

    def __call__(self, paragraph: str) -> list[str]:
        slices, start, has_closing = [], 0, False
        for end in self._ends(paragraph):
            slices.append((start, end.end()))
            start = end.start(end.lastindex or 0)
            has_closing |= paragraph[start] in _CLOSING
        slices.append((start, len(paragraph.rstrip())))
        if has_closing:
            slices = _closed(paragraph, slices)
        return [paragraph[start:stop] for start, stop in slices if start < stop]

    def _ends(self, text: str) -> list[re.Match[str]]:
        """The candidates that end a sentence."""
        candidates = list(_CANDIDATE.finditer(text))
        if not candidates:
            return []
        spaced = text
        for space in "\t\n\r\v\f":
            spaced = spaced.replace(space, " ")
        ends: list[re.Match[str]] = []
        last, at, word = None, 0, 0  # the previous candidate, its position, and the start of its word
        for candidate in candidates:
            next_at = candidate.start()
            next_word = spaced.rfind(" ", at + 1, next_at) + 1 or word
            # Of several candidates after one word, as in "What?!", only the last counts.
            if last and at <= next_word and self._ends_sentence(text, word, last):
                ends.append(last)
            last, at, word = candidate, next_at, next_word
        if last and self._ends_sentence(text, word, last):
            ends.append(last)
        return ends

    def _ends_sentence(self, text: str, word: int, candidate: re.Match[str]) -> bool:
        """Whether a candidate ends a sentence; `word` is the start of the word before it."""
        before = text[word : candidate.end()]
        kind = candidate.lastindex or 0
        if kind == _BY_ODD_WORD:
            verdicts, behind = self._by_odd_word, text[word : candidate.end(kind)]
        else:
            verdicts, behind = self._by_word.get(before) or self._learn(before), candidate[kind]
        if verdicts is _ENDS:
            return True
        if behind not in verdicts:
            if len(verdicts) >= _REMEMBERED:
                verdicts.clear()
            verdicts[behind] = self._nltk.text_contains_sentbreak(text[word : candidate.end(kind)])
        return verdicts[behind]

    def _learn(self, before: str) -> dict[str, bool]:
        """Decisions by following text, given the text before; `_ENDS` if a sentence ends whatever follows."""
        if len(self._by_word) >= _REMEMBERED:
            self._by_word.clear()
        verdicts = _ENDS if self._always_ends(before) else self._learn_from_nltk(before)
        self._by_word[before] = verdicts
        return verdicts

    def _always_ends(self, before: str) -> bool:
        """Whether a sentence clearly ends here; otherwise NLTK decides."""
        if before[-1] != ".":
            return True
        found = _LAST_WORD.fullmatch(before)
        if not found:
            return False
        word = found[1].lower()
        is_special = word in self._abbreviations or (word or ".") in self._first_words
        return not (is_special or len(word) == 1 or word.isdecimal())

    def _learn_from_nltk(self, before: str) -> dict[str, bool]:
        """NLTK judges what follows by the state of the last token alone, so states share decisions."""
        *others, last = self._nltk._annotate_tokens(self._nltk._tokenize_words(before))
        word = last.type_no_period
        is_part = last.is_number or word in self._first_words
        is_plain = last.sentbreak and not last.is_initial and not is_part
        if is_plain or any(token.sentbreak for token in others):
            return _ENDS
        state = (last.sentbreak, last.abbr, last.ellipsis, bool(last.is_initial), word if is_part else None)
        return self._by_state.setdefault(state, {})

    @cached_property
    def _nltk(self) -> Any:
        nltk = nltk_punkt()
        learned = nltk.PunktParameters()
        learned.abbrev_types = self._abbreviations
        learned.collocations = set(map(tuple, self.parameters["collocations"]))
        learned.sent_starters = set(self.parameters["sentence_starters"])
        # Unlike NLTK's defaultdict, it does not grow on lookup.
        learned.ortho_context = Counter(self.parameters["contexts"])
        return nltk.PunktSentenceTokenizer(learned)


def train_punkt(paragraphs: list[str]) -> Punkt:
    """Train Punkt on paragraphs of a corpus; needs no download."""
    trainer = nltk_punkt().PunktTrainer()
    trainer.train("\n".join(paragraphs), finalize=True)
    learned = trainer.get_params()
    return Punkt(
        {
            "abbreviations": sorted(learned.abbrev_types),
            "collocations": sorted(map(list, learned.collocations)),
            "sentence_starters": sorted(learned.sent_starters),
            "contexts": {word: flags for word, flags in sorted(learned.ortho_context.items()) if flags},
        }
    )


def _closed(text: str, slices: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend slices of sentences by their closing quotes and brackets; some may become empty."""
    closed, moved = [], 0
    for (start, stop), (next_start, next_stop) in zip(slices, [*slices[1:], (0, 0)], strict=True):
        start += moved
        moved = 0
        if next_start < next_stop and text[next_start] in _CLOSING:
            closing = _CLOSED.match(text, next_start, next_stop)
            if closing:
                moved = len(closing[0])
                stop = next_start + len(closing[0].rstrip())
        closed.append((start, stop))
    return closed
