"""Finds the files that a run trains on, and those that it is evaluated on."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nemo.collections.nlp.data.hdf5 import holds_shards_instead_of_text
from nemo.collections.nlp.data.inputs import Source, TextOptions, sources_of
from nemo.collections.nlp.data.inputs.folders import Listing, Place, listing_at, some_of
from nemo.collections.nlp.data.inputs.places import place_of
from nemo.collections.nlp.data.store.token_store import held_out_in, is_store, store_in
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import DataError, UsageError
from nemo.utils.logging import logging

Places = Place | list[Place]


@dataclass(frozen=True)
class Corpus:
    """Text that was found, and its files, which are examined once.

    Attributes:
        place: a file, folder or address; several of these; or a token store.
        sources: the files; none for a token store.
    """

    place: Places
    sources: list[Source]

    @staticmethod
    def at(place: Places, text: TextOptions, held_out: bool = False) -> "Corpus":
        """The text at a place; raises as `sources_of`."""
        is_prepared = isinstance(place, Path) and is_store(place)
        return Corpus(place, [] if is_prepared else sources_of(place, text, held_out))

    @property
    def is_prepared(self) -> bool:
        """Whether it is a token store."""
        return not self.sources


def data_files(options: PretrainingOptions) -> tuple[Corpus, Corpus | None]:
    """The training text and the held-out text, if any; or the token stores made from them.

    A folder with `train.txt` gives this file, and `valid.txt` as held-out text; or other files named so, see
    `inputs.splits`. The output of `nemo-bert prepare` gives its stores `train` and `test`.

    Raises:
        UsageError: the held-out text is also trained on.
        DataError: there are shards instead of text, or only held-out text.
    """
    given = place_of(options.train_data or options.data_dir or "")
    folder = place_of(options.data_dir) if options.data_dir is not None else given
    text = TextOptions.of(options)
    if prepared := store_in(given, "train"):
        logging.info("training on the tokens in %s", prepared)
        train: Place = prepared
    else:
        _refuse_shards(given)
        train = _training_text(given, text)
        if train != given:
            logging.info("training on %s", train)
    held_out: Places | None
    if options.eval_data is None:
        held_out = store_in(folder, "test") or _validation_text(folder, text)
    else:
        held_out = held_out_text(place_of(options.eval_data), text)
    trained_on = Corpus.at(train, text)
    if held_out is None:
        logging.warning("no held-out text, so nothing is evaluated; give --eval_data")
        return trained_on, None
    evaluated_on = Corpus.at(held_out, text, held_out=True)
    compare(trained_on, evaluated_on)
    return trained_on, evaluated_on


def held_out_text(place: Place, text: TextOptions) -> Places:
    """The text to evaluate on: in a folder, its validation files, else its test files, else all.

    From the output of `nemo-bert prepare`, its held-out store.

    Raises:
        DataError: nothing was held out; or there are shards instead of text.
    """
    if prepared := held_out_in(place):
        return prepared
    _refuse_shards(place)
    listing = _listing(place, text)
    return place if listing is None else _of_listing(place, listing, listing.held_out())


def _training_text(place: Place, text: TextOptions) -> Place:
    listing = _listing(place, text)
    if listing is None:
        return place
    if not listing.splits.has_training:
        raise DataError(
            "every file in this folder is named as validation or test data",
            where=listing.where,
            found=some_of(listing.splits.held_out_by_name),
            fix="name the file to train on (--train_data)",
        )
    files = listing.training()
    name = next(iter(files))
    # `sources_of` takes the same files from a folder; the folder may also contain a tokenizer.
    return files[name] if len(files) == 1 and "/" not in name else place


def _validation_text(folder: Place, text: TextOptions) -> Places | None:
    listing = _listing(folder, text)
    if listing is None or not (names := listing.splits.validation):
        return None
    logging.info("held-out text: %s", some_of(names))
    return _of_listing(folder, listing, {name: listing.files[name] for name in names})


def _listing(place: Place, text: TextOptions) -> Listing | None:
    """The listing of a folder of text; None for anything else."""
    listing = None if is_store(place) else listing_at(place, text.format)
    return listing if listing is not None and listing.files else None


def _of_listing(place: Place, listing: Listing, files: dict[str, Place]) -> Places:
    """Some files of a folder, in the simplest form."""
    if len(files) == 1:
        return next(iter(files.values()))
    return place if list(files) == listing.splits.others else list(files.values())


def _refuse_shards(place: Place) -> None:
    if isinstance(place, Path) and not is_store(place) and holds_shards_instead_of_text(place):
        raise DataError(
            "HDF5 shards, not text",
            where=place,
            fix="to train on shards add data_preprocessed instead of data_text",
        )


def compare(train: Corpus, held_out: Corpus) -> None:
    """Refuse held-out text that is also trained on; warn if the layouts differ."""
    if both := _places(train) & _places(held_out):
        raise UsageError(
            "the held-out text is also trained on",
            where=min(both),
            fix="give --train_data and --eval_data without a common file",
        )
    layouts = [_main_layout(corpus.sources) for corpus in (train, held_out)]
    if None not in layouts and layouts[0] != layouts[1]:
        logging.warning(
            "training and held-out text differ in layout: %s is read as %r and %s as %r, so their losses "
            "are hard to compare; if both have the same layout, give it (--text_layout)",
            some_of([str(source) for source in train.sources]),
            layouts[0],
            some_of([str(source) for source in held_out.sources]),
            layouts[1],
        )


def _places(corpus: Corpus) -> set[str]:
    if isinstance(corpus.place, Path) and corpus.is_prepared:
        return {str(corpus.place.resolve())}
    paths = [source.path for source in corpus.sources]
    return {path if "://" in path else os.path.realpath(path) for path in paths}


def _main_layout(sources: list[Source]) -> str | None:
    """The layout of most of the plain text; None without any."""
    sizes: Counter[str] = Counter()
    for source in sources:
        if source.layout is not None:
            sizes[source.layout] += max(source.num_bytes, 1)
    return sizes.most_common(1)[0][0] if sizes else None
