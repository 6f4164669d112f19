"""Examples -> rows of tokens. Longer examples are cut into overlapping rows; nothing is dropped.

The exception is the end of a word that is longer than a row; a warning counts these.

Shapes: B batch, T tokens of the longest row in it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor

from nemo.backends.pytorch import DataLayerNM
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.finetuning.examples import Example, LabeledText, Sentence
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import LabelsType, MaskType, NeuralType
from nemo.utils.logging import logging

OVERLAP_SHARE = 4
"""Consecutive rows overlap by a quarter."""


@dataclass(frozen=True)
class Row:
    """One input of the model.

    Attributes:
        example: number of its example.
        ids: tokens, including `[CLS]` and `[SEP]`.
        num_first: number of tokens in the first segment.
        labels: label ids: one, or those of its words.
        positions: position of the first token of each of these words; empty for texts.
    """

    example: int
    ids: list[int]
    num_first: int
    labels: list[int]
    positions: list[int]


@dataclass(frozen=True)
class WordWindow:
    """A range of words, and the range for which its predictions are used."""

    first: int
    stop: int
    own_first: int
    own_stop: int


def windows(lengths: Sequence[int], room: int) -> list[WordWindow]:
    """Split words into overlapping windows of at most `room` tokens.

    Each word is predicted in one window. Of the words that two windows share, the first half belongs to the
    earlier one, so that predictions are made away from the borders.

    Args:
        lengths: tokens of each word, `room` at most.
    """
    ranges: list[tuple[int, int]] = []
    first = 0
    while not ranges or ranges[-1][1] < len(lengths):
        stop, taken = first, 0
        while stop < len(lengths) and taken + lengths[stop] <= room:
            taken += lengths[stop]
            stop += 1
        ranges.append((first, stop))
        next_first, shared = stop, 0
        # The next word must fit after the overlap, or the loop would not end.
        most = min(room // OVERLAP_SHARE, room - lengths[stop]) if stop < len(lengths) else 0
        while next_first - 1 > first and shared + lengths[next_first - 1] <= most:
            next_first -= 1
            shared += lengths[next_first]
        first = next_first
    borders = [
        0,
        *((stop + start + 1) // 2 for (_, stop), (start, _) in pairwise(ranges)),
        len(lengths),
    ]
    return [WordWindow(*span, *own) for span, own in zip(ranges, pairwise(borders), strict=True)]


class Encoder:
    """Cuts examples into rows.

    Args:
        tokenizer: tokenizer of the model.
        labels: labels of the task; the id of a label is its index.
        max_seq_length: maximum length of a row, including `[CLS]` and `[SEP]`.
    """

    def __init__(self, tokenizer: TokenizerSpec, labels: Sequence[str], max_seq_length: int):
        self.tokenizer, self.max_seq_length = tokenizer, max_seq_length
        self._label_ids = {label: i for i, label in enumerate(labels)}

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """The rows of all examples, in their order."""
        texts = sorted(set(chain.from_iterable(example.content for example in examples)))
        pieces = dict(zip(texts, (ids.tolist() for ids in self.tokenizer.encode_batch(texts)), strict=True))
        self._warn_of_cut_words(examples, pieces)
        return [row for i, example in enumerate(examples) for row in self._rows_of(i, example, pieces)]

    def _warn_of_cut_words(self, examples: Sequence[Example], pieces: Mapping[str, list[int]]) -> None:
        room = self.max_seq_length - 2
        words = chain.from_iterable(e.words for e in examples if isinstance(e, Sentence))
        cut = sum(len(pieces[word]) > room for word in words)
        if cut:
            logging.warning("%d words have more than %d tokens; only their beginning is read", cut, room)

    def _rows_of(self, number: int, example: Example, pieces: Mapping[str, list[int]]) -> Iterator[Row]:
        if isinstance(example, Sentence):
            return self._rows_of_words(number, example, pieces)
        return self._rows_of_texts(number, example, pieces)

    def _rows_of_words(
        self, number: int, sentence: Sentence, pieces: Mapping[str, list[int]]
    ) -> Iterator[Row]:
        room = self.max_seq_length - 2
        # A word without tokens becomes [UNK]; a word longer than a row is cut, as it has a single label.
        words = [(pieces[word] or [self.tokenizer.unk_id])[:room] for word in sentence.words]
        for window in windows([len(word) for word in words], room):
            ids, positions = [self.tokenizer.cls_id], []
            for i in range(window.first, window.stop):
                if window.own_first <= i < window.own_stop:
                    positions.append(len(ids))
                ids += words[i]
            ids.append(self.tokenizer.sep_id)
            labels = [self._label_ids[label] for label in sentence.labels[window.own_first : window.own_stop]]
            yield Row(number, ids, len(ids), labels, positions)

    def _rows_of_texts(
        self, example_number: int, example: LabeledText, pieces: Mapping[str, list[int]]
    ) -> Iterator[Row]:
        """The longer text is split over the rows; the other is in each, or split too if it fills half a row.

        If both are split, row k has the k-th part of each text.
        """
        cls, sep = self.tokenizer.cls_id, self.tokenizer.sep_id
        segments = [pieces[text] for text in example.texts]
        room = self.max_seq_length - 1 - len(segments)
        longest = max(range(len(segments)), key=lambda i: len(segments[i]))
        rooms = [min(len(segment), room // 2) for segment in segments]
        rooms[longest] += room - sum(rooms)
        cuts = [windows([1] * len(segment), most) for segment, most in zip(segments, rooms, strict=True)]
        number = max(map(len, cuts))
        for row in range(number):
            parts = [cut[row * len(cut) // number] for cut in cuts]
            shown = [segment[part.first : part.stop] for segment, part in zip(segments, parts, strict=True)]
            ids = [cls, *chain.from_iterable((*segment, sep) for segment in shown)]
            yield Row(example_number, ids, 2 + len(shown[0]), [self._label_ids[example.labels[0]]], [])


class RowLayer(DataLayerNM):
    """Rows and their labels.

    Args:
        rows: the rows of all examples.
        pad_id: id that pads the shorter rows of a batch.
        labels_words: whether each word has a label, rather than each row.
        batch_size: B.
        seed: seed of the order.
        shuffle: None: shuffle for training only.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        pad_id: int,
        labels_words: bool,
        batch_size: int,
        seed: int = 0,
        shuffle: bool | None = None,
    ):
        axes = ("B", "T") if labels_words else ("B",)
        self.output_ports = {**BERT.input_ports, "labels": NeuralType(axes, LabelsType())}
        if labels_words:
            self.output_ports["loss_mask"] = NeuralType(axes, MaskType())
        self.dataset, self.batch_size, self.seed, self.shuffle = rows, batch_size, seed, shuffle
        self.collate_fn = self._collate
        self._pad_id, self._labels_words = pad_id, labels_words

    def _collate(self, rows: Sequence[Row]) -> list[Tensor]:
        shape = len(rows), max(len(row.ids) for row in rows)
        ids = torch.full(shape, self._pad_id)
        segments, mask, labels, labeled = torch.zeros((4, *shape), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            segments[i, row.num_first : len(row.ids)] = 1
            mask[i, : len(row.ids)] = 1
            if self._labels_words:
                labels[i, row.positions] = torch.tensor(row.labels)
                labeled[i, row.positions] = 1
        if self._labels_words:
            return [ids, segments, mask, labels, labeled]
        return [ids, segments, mask, torch.tensor([row.labels[0] for row in rows])]
