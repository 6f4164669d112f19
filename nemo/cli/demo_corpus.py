"""A corpus of English prose from installed packages: docstrings, Python's help, READMEs.

Sources are read as text or parsed with `ast`; nothing is imported or run.
"""

import ast
import email
import gc
import hashlib
import os
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from nemo.cli.demo_prose import docstrings_of, paragraphs_of
from nemo.utils.errors import DataError
from nemo.utils.logging import logging

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "testing", "idle_test", "site-packages", "_vendor", "pydoc_data"}
)

_SENTENCE_END = re.compile(r"[.!?][\"')]*(?=\s+[\"'(]?[A-Z]|\s*$)")


class Document(NamedTuple):
    """The prose of one module, help topic or README.

    Attributes:
        name: its name, which decides whether it is held out.
        paragraphs: candidate paragraphs, in the order of the source.
    """

    name: str
    paragraphs: list[str]


@dataclass
class SourceCount:
    """Statistics of one source.

    Attributes:
        documents: documents kept, each of two sentences or more.
        paragraphs: paragraphs kept.
        size: bytes of text kept.
        repeated: paragraphs dropped as duplicates or near duplicates.
        unreadable: files that could not be read or parsed.
    """

    documents: int = 0
    paragraphs: int = 0
    size: int = 0
    repeated: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class MachineCorpus:
    """The files of the corpus, and their sources.

    Attributes:
        train: file with the training text.
        valid: file with the held-out documents.
        train_size: bytes of `train`.
        valid_size: bytes of `valid`.
        sources: statistics of each source by name, in reading order.
    """

    train: Path
    valid: Path
    train_size: int
    valid_size: int
    sources: dict[str, SourceCount]


@dataclass
class NearDuplicates:
    """Detects near duplicates by the word n-grams of earlier paragraphs.

    Args:
        gram: words per n-gram.
        share: a paragraph is a near duplicate if more than this share of its n-grams is known.
    """

    gram: int = 8
    share: float = 0.5
    _seen: set[int] = field(default_factory=set)
    _word_ids: dict[str, int] = field(default_factory=dict)

    def is_new(self, paragraph: str) -> bool:
        """Whether the paragraph is new; if so, remember it. Case and punctuation are ignored."""
        words = re.findall(r"\w+", paragraph.lower())
        ids = [self._word_ids.setdefault(word, len(self._word_ids)) for word in words]
        # Unlike hashes of text, hashes of integer tuples are the same in every process.
        starts = range(max(1, len(ids) - self.gram + 1))
        grams = {hash(tuple(ids[start : start + self.gram])) for start in starts}
        known = len(grams & self._seen)
        if known > self.share * len(grams):
            return False
        self._seen |= grams
        return True


def collect(
    folder: str | Path,
    minimum_bytes: float = 8e6,
    maximum_bytes: float | None = 16e6,
    *,
    valid_share: float = 0.025,
    minimum_valid_bytes: float = 150e3,
    duplicate_gram: int = 8,
    duplicate_share: float = 0.5,
    stdlib: str | Path | None = None,
    site_packages: str | Path | None = None,
    workers: int | None = None,
) -> MachineCorpus:
    """Write `train.txt` and `valid.txt`: a paragraph per line, a blank line between documents.

    The same installed files give the same bytes. Sources are read in a fixed order (help topics, standard
    library, READMEs, packages) until `maximum_bytes` is reached. Whole documents are held out, by the hash of
    their name.

    Args:
        folder: folder to write to; created if missing.
        minimum_bytes: warn if there is less text than this.
        maximum_bytes: stop reading when this much is kept; None reads everything.
        valid_share: share of documents to hold out.
        minimum_valid_bytes: hold out more documents, if needed, to reach this size.
        duplicate_gram: words per n-gram of the near-duplicate test.
        duplicate_share: share of known n-grams above which a paragraph is dropped.
        stdlib: folder of the standard library; default: this Python's.
        site_packages: folder of the installed packages; default: this Python's.
        workers: processes that parse the sources, which takes most of the time; default: one per core. Their
            number does not change the result.

    Raises:
        DataError: there is no document to train on or none to hold out.
    """
    paths = sysconfig.get_paths()
    stdlib = Path(stdlib or paths["stdlib"])
    site_packages = Path(site_packages or paths["purelib"])
    is_new = NearDuplicates(duplicate_gram, duplicate_share).is_new
    sources: dict[str, SourceCount] = {}
    kept: list[tuple[str, str]] = []
    total = 0
    with _without_garbage_collection(), _file_map(workers or os.cpu_count() or 1) as file_map:
        for name, document in _documents(stdlib, site_packages, sources, file_map):
            text = _text_of(document, is_new, sources[name])
            if text:
                kept.append((document.name, text))
                total += len(text.encode())
            if maximum_bytes is not None and total >= maximum_bytes:
                break
    corpus = _write(Path(folder), kept, sources, valid_share, minimum_valid_bytes)
    _report(corpus, minimum_bytes)
    return corpus


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection: syntax trees have no cycles, and the search takes as long as parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _file_map(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map` that runs in this process or in several; results are in the order of the input."""
    if workers == 1:
        yield map
        return
    # Spawned, as a fork of a process with threads (such as torch's) may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=gc.disable) as pool:
        yield partial(pool.map, chunksize=8)


def _documents(
    stdlib: Path,
    site_packages: Path,
    sources: dict[str, SourceCount],
    file_map: Callable[..., Iterator[Any]],
) -> Iterator[tuple[str, Document]]:
    """(source name, document) in reading order; adds each source to `sources`."""
    readers: list[tuple[str, Callable[[SourceCount], Iterator[Document]]]] = [
        ("help topics", partial(_help_topics, stdlib / "pydoc_data" / "topics.py")),
        ("standard library", partial(_modules, file_map, stdlib, stdlib)),
        ("package READMEs", partial(_readmes, site_packages)),
    ]
    for package in sorted(site_packages.iterdir()):
        if package.is_dir() and package.name not in SKIPPED_FOLDERS:
            readers.append((package.name, partial(_modules, file_map, package, site_packages)))
    for name, read in readers:
        count = sources.setdefault(name, SourceCount())
        for document in read(count):
            yield name, document


def _modules(
    file_map: Callable[..., Iterator[Any]], folder: Path, root: Path, count: SourceCount
) -> Iterator[Document]:
    names = {path: path.relative_to(root).with_suffix("").parts for path in sorted(folder.rglob("*.py"))}
    paths = [path for path, parts in names.items() if SKIPPED_FOLDERS.isdisjoint(parts)]
    for path, paragraphs in zip(paths, file_map(_prose_of_module, paths), strict=True):
        if paragraphs is None:
            count.unreadable += 1
        else:
            yield Document(".".join(names[path]), paragraphs)


def _prose_of_module(path: Path) -> list[str] | None:
    """The prose paragraphs of a Python file, or None if it does not parse."""
    try:
        docstrings = docstrings_of(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return None
    return [paragraph for docstring in docstrings for paragraph in paragraphs_of(docstring)]


def _help_topics(path: Path, count: SourceCount) -> Iterator[Document]:
    """The help topics in `pydoc_data/topics.py`, which holds a dictionary: topic -> text."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        table = next(node.value for node in tree.body if isinstance(node, ast.Assign))
        topics = ast.literal_eval(table)
    except (SyntaxError, ValueError, OSError, StopIteration):
        count.unreadable += 1
        return
    for topic, text in sorted(topics.items()):
        yield Document(f"topic {topic}", paragraphs_of(text))


def _readmes(site_packages: Path, count: SourceCount) -> Iterator[Document]:
    metadata = sorted(site_packages.glob("*.dist-info/METADATA"))
    readmes = [
        path
        for path in sorted(site_packages.glob("*/**/README*"))
        if path.suffix in {"", ".md", ".rst", ".txt"} and SKIPPED_FOLDERS.isdisjoint(path.parts[:-1])
    ]
    for path in [*metadata, *readmes]:
        try:
            text = path.read_text(encoding="utf-8")
        except (ValueError, OSError):
            count.unreadable += 1
            continue
        if path.name == "METADATA":
            text = str(email.message_from_string(text).get_payload())
        yield Document(str(path.relative_to(site_packages)), paragraphs_of(text))


def _text_of(document: Document, is_new: Callable[[str], bool], count: SourceCount) -> str:
    """The new paragraphs of a document as lines; empty if they are less than two sentences."""
    new = [paragraph for paragraph in document.paragraphs if is_new(paragraph)]
    count.repeated += len(document.paragraphs) - len(new)
    if sum(len(_SENTENCE_END.findall(paragraph)) for paragraph in new) < 2:
        return ""
    text = "\n".join(new) + "\n"
    count.documents += 1
    count.paragraphs += len(new)
    count.size += len(text.encode())
    return text


def _write(
    folder: Path,
    documents: list[tuple[str, str]],
    sources: dict[str, SourceCount],
    valid_share: float,
    minimum_valid_bytes: float,
) -> MachineCorpus:
    held_out = _held_out(documents, valid_share, minimum_valid_bytes)
    splits = {
        "train": [text for name, text in documents if name not in held_out],
        "valid": [text for name, text in documents if name in held_out],
    }
    if not (splits["train"] and splits["valid"]):
        raise DataError(
            "not enough English prose on this machine for a corpus",
            where=folder,
            found=f"{len(documents)} documents",
            expected="two or more",
            fix="train on your own text",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in splits.items():
        (folder / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")
    train, valid = folder / "train.txt", folder / "valid.txt"
    return MachineCorpus(train, valid, train.stat().st_size, valid.stat().st_size, sources)


def _held_out(documents: list[tuple[str, str]], share: float, minimum_bytes: float) -> frozenset[str]:
    """Names of the documents with the smallest hashes, at most half of them."""
    by_hash = sorted(documents, key=lambda item: hashlib.sha256(item[0].encode()).digest())
    names: list[str] = []
    size = 0
    for name, text in by_hash[: len(by_hash) // 2]:
        if len(names) >= share * len(documents) and size >= minimum_bytes:
            break
        names.append(name)
        size += len(text.encode())
    return frozenset(names)


def _report(corpus: MachineCorpus, minimum_bytes: float) -> None:
    shown: Iterable[tuple[str, SourceCount]] = sorted(corpus.sources.items(), key=lambda item: -item[1].size)
    for name, count in list(shown)[:12]:
        logging.info(
            f"{name}: {count.size / 1e6:.2f} MB in {count.documents} documents, "
            f"{count.repeated} repeated paragraphs dropped"
        )
    total: Counter[str] = Counter()
    for count in corpus.sources.values():
        total.update(vars(count))
    logging.info(
        f"corpus: {total['size'] / 1e6:.1f} MB, {total['documents']} documents, "
        f"{total['paragraphs']} paragraphs from {len(corpus.sources)} sources; "
        f"{total['repeated']} repeated paragraphs dropped, {total['unreadable']} files unreadable; "
        f"{corpus.valid_size / 1e3:.0f} kB held out"
    )
    if total["size"] < minimum_bytes:
        logging.warning(
            f"only {total['size'] / 1e6:.1f} MB of prose on this machine, "
            f"{minimum_bytes / 1e6:.1f} MB wanted: the model will learn less"
        )
