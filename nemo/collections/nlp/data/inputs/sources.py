"""Finds the files of a corpus, detects what each one is, and checks that none has changed."""

import codecs
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from nemo.collections.nlp.data.inputs.compression import compression_of, decompressed
from nemo.collections.nlp.data.inputs.excerpts import (
    HEAD_BYTES,
    ends_in_cr,
    excerpts_of,
    layout_of,
    read_up_to,
)
from nemo.collections.nlp.data.inputs.folders import (
    Listing,
    check_and_tell,
    listing_at,
    some_of,
)
from nemo.collections.nlp.data.inputs.kinds import check_readable, format_by_name, format_of
from nemo.collections.nlp.data.inputs.layouts import LAYOUTS
from nemo.collections.nlp.data.inputs.lines import with_line_feeds
from nemo.collections.nlp.data.inputs.options import AUTO, FORMATS, TextOptions
from nemo.collections.nlp.data.inputs.places import (
    filesystem_of,
    is_url,
    open_at,
    place_of,
    reading,
    shown,
)
from nemo.utils.errors import DataError
from nemo.utils.files import missing, refuse_special
from nemo.utils.logging import LogMode, logging

Path_ = str | os.PathLike[str]

_FIRST_BYTES = 64
_VERSIONS = ("ETag", "Content-MD5", "Digest", "Last-Modified")  # what a web server may report about a file


@dataclass(frozen=True)
class Source:
    """One file of a corpus.

    Attributes:
        path: local path, or an address for fsspec.
        name: path within the folder that holds the corpus; it stays the same if the corpus is moved.
        format: a name in `options.FORMATS`.
        compression: "gzip", "bz2", "xz", "zstd", or None.
        layout: a name in `layouts.LAYOUTS`; None for formats other than text.
        num_bytes: stored size; -1 if a server does not report it.
        version: changes whenever the file changes.
        ends_in_cr: whether its lines end in CR alone, see `lines.CarriageReturns`.
    """

    path: str
    name: str
    format: str
    compression: str | None
    layout: str | None
    num_bytes: int
    version: str
    ends_in_cr: bool = False

    def __str__(self) -> str:
        return shown(self.path)


def sources_of(
    path: "Path_ | Source | Iterable[Path_ | Source]", options: TextOptions = AUTO, held_out: bool = False
) -> list[Source]:
    """The files of a corpus, sorted by name; logs what was detected.

    Args:
        path: a file, a folder, an address that fsspec supports, or several of these. In a folder and its
            subfolders, it takes files with the suffix of a text format, and files without a suffix that hold
            JSON lines (wiki2019zh) or WikiExtractor articles. Others, such as README.txt, are skipped and
            logged.
        options: settings that must not be detected.
        held_out: if a folder's files are named as training, validation or test files (see `splits`), take
            those to evaluate on instead of those to train on.

    Raises:
        MissingFileError: it does not exist.
        DataError: a folder has no text, or an entry is not a regular file or not text. A link in a folder is
            also refused, because it may lead anywhere; give its target instead.
        UsageError: an address needs a package that is not installed.
    """
    given = [path] if isinstance(path, str | os.PathLike | Source) else list(path)
    known = [each for each in given if isinstance(each, Source)]
    if len(known) == len(given):
        return known
    found: dict[str, Source] = {}
    for each in given:
        for source in [each] if isinstance(each, Source) else _sources_at(each, options, held_out):
            place = source.path if is_url(source.path) else os.path.abspath(source.path)
            found.setdefault(place, source)
    named = _named(list(found.values()))
    _tell(given, named, options)
    return named


def content_hash(source: Source) -> str:
    """The SHA-256 of a file's stored bytes, in hexadecimal.

    Raises:
        DataError: it cannot be read.
    """
    with reading(source.path), open_at(source.path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def check_unchanged(source: Source) -> None:
    """Raise a DataError if the file changed since it was found."""
    with reading(source.path):
        if (source.num_bytes, source.version) != _size_and_version(source.path):
            raise DataError(
                "the text changed while it was being read", where=shown(source.path), fix="start again"
            )


# From a path to its files.


def _sources_at(path: Path_, options: TextOptions, held_out: bool) -> list[Source]:
    place = place_of(path)
    if isinstance(place, Path):
        with reading(place):
            exists = place.exists()
        if not exists:
            raise missing(place, "text: a file, a folder or an address")
    listing = listing_at(place, options.format)
    if listing is None:
        if isinstance(place, Path):
            refuse_special(place)
        return [_source(str(place), options)]
    return _sources_in(listing, options, held_out)


def _sources_in(listing: Listing, options: TextOptions, held_out: bool) -> list[Source]:
    sources, others = [], list(listing.others)
    for name, file in (listing.held_out() if held_out else listing.training()).items():
        source = _source_in_folder(str(file), options)
        if source is None:
            others.append(name)
        else:
            sources.append(source)
    check_and_tell(listing.where, len(sources), sorted(others))
    return sources


def _source_in_folder(path: str, options: TextOptions) -> Source | None:
    """The source at a path found in a folder; None if neither name nor content shows that it is text.

    A file without a suffix may be anything: only JSON lines and WikiExtractor articles are accepted.
    """
    if options.format != "auto" or format_by_name(path):
        return _source(path, options)
    try:
        source = _source(path, options)
        first = _first_bytes(source)
    except DataError:
        return None
    if source.format == "text" and first.startswith(b"{"):
        # It begins like JSON lines, so report its defects instead of skipping it.
        return replace(source, format="json-lines", layout=None)
    return source if source.format != "text" or first.startswith(b"<doc id=") else None


def _first_bytes(source: Source) -> bytes:
    with reading(source.path), open_at(source.path) as file:
        first = read_up_to(decompressed(file, source.compression, shown(source.path)), _FIRST_BYTES)
    return first.lstrip(codecs.BOM_UTF8).lstrip()


# From a file to its description.


def _source(path: str, options: TextOptions) -> Source:
    """A source that has no name yet."""
    with reading(path):
        num_bytes, version = _size_and_version(path)
        with open_at(path) as file:
            head = file.read(HEAD_BYTES)
        if compression := compression_of(path, head):
            with open_at(path) as file:
                head = read_up_to(decompressed(file, compression, shown(path)), HEAD_BYTES)
    if options.format == "auto":
        format_ = format_of(path, with_line_feeds(head) if ends_in_cr([head]) else head)
    else:
        format_ = options.format
        if format_ != "parquet":
            check_readable(path, head)
    layout, has_cr = None, False
    if format_ == "parquet":
        if compression is not None:
            fix = f"decompress it ({compression})"
            raise DataError("Parquet inside another compression", where=shown(path), fix=fix)
    elif format_ == "text":
        excerpts = excerpts_of(path, compression, num_bytes, version, head)
        has_cr = ends_in_cr(excerpts)
        layout = options.layout if options.layout != "auto" else layout_of(path, excerpts, has_cr)
    else:
        has_cr = ends_in_cr([head])
    return Source(path, "", format_, compression, layout, num_bytes, version, has_cr)


def _size_and_version(path: str) -> tuple[int, str]:
    if not is_url(path):
        status = os.stat(path)
        return status.st_size, str(status.st_mtime_ns)
    filesystem, inner = filesystem_of(path)
    info = filesystem.info(inner)
    size = info.get("size")
    said = [f"{name} {info[name]}" for name in _VERSIONS if info.get(name)]
    return -1 if size is None else int(size), ", ".join(said) or str(filesystem.ukey(inner))


def _named(sources: list[Source]) -> list[Source]:
    """The sources with their names, sorted by name."""
    paths = {s.path: PurePosixPath(_place(s.path)) for s in sources}
    if not paths:
        return []
    root = os.path.commonpath([path.parent for path in paths.values()])
    named = [replace(s, name=paths[s.path].relative_to(root).as_posix()) for s in sources]
    return sorted(named, key=lambda source: source.name)


def _place(path: str) -> str:
    """An absolute path; for an address, made of its host and path."""
    if not is_url(path):
        return os.path.abspath(path)
    parts = urlsplit(path)
    return f"/{parts.scheme}/{parts.netloc.rpartition('@')[2]}{parts.path}"


# Logging.


def _tell(given: Iterable[Any], sources: list[Source], options: TextOptions) -> None:
    where = some_of([shown(each) for each in given])
    if len(formats := {source.format for source in sources}) > 1:
        logging.warning(
            f"{where}: contains {' and '.join(sorted(FORMATS[each] for each in formats))}; all are read; "
            "to read only one, name its files or its format (--text_format)",
            mode=LogMode.ONCE,
        )
    for (format_, compression, layout), count in Counter(
        (source.format, source.compression, source.layout) for source in sources
    ).items():
        what = FORMATS[format_] if compression is None else f"{FORMATS[format_]} in {compression}"
        how = (
            f"{LAYOUTS[layout].meaning} (layout {layout!r})"
            if layout is not None
            else f"documents in {options.text_field!r}"
        )
        files = f"{count} file{'s' if count > 1 else ''}"
        logging.info(f"{where}: {files} of {what}, {how}", mode=LogMode.ONCE)
