"""The stages of a preparation, split into tasks that can run in any process with access to the work folder.

A task whose result exists undamaged is skipped: that is how a killed run resumes.

    [work]/plan.json, tokenizer/, splitter.json     inputs of all tasks
    [work]/parts/<number>/                          written by `Tokenize`
    [work]/assembled.json                           written by `Assemble`, when the stores are in place
    [work]/shards/<number>.json                     written by `WriteShards`, when the shard is in place
"""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from nemo.collections.nlp.data.hdf5 import manifest as shard_manifest
from nemo.collections.nlp.data.hdf5.writer import document_ranges, write_shard
from nemo.collections.nlp.data.store.duplicates import exact_duplicates, near_duplicates
from nemo.collections.nlp.data.store.store_arrays import sha256_of
from nemo.collections.nlp.data.store.store_builder import (
    assemble,
    document_hashes,
    finished_part,
    held_out,
    near_duplicate_bands,
    write_part,
)
from nemo.collections.nlp.data.store.token_store import TokenStore
from nemo.collections.nlp.data.text.sentences import load_splitter
from nemo.collections.nlp.data.tokenizers import TokenizerSpec, load_tokenizer
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.collections.nlp.data.tokenizers.opening import keeps_capitals
from nemo.collections.nlp.preparation.plan import (
    PLAN_FILE,
    STORES,
    TEST,
    TRAINING,
    PreparationPlan,
    load_plan,
)
from nemo.collections.nlp.preparation.tasks import Task
from nemo.utils.errors import DataError, UsageError
from nemo.utils.files import write_atomically

FORMAT, VERSION = "nemo-bert prepared", 1
MANIFEST_FILE, SPLITTER_FILE = "manifest.json", "splitter.json"


class Stage(ABC):
    """A stage of a preparation. Its only state is the path of the work folder."""

    name: ClassVar[str]

    def __init__(self, work: Path):
        self.work = work

    @staticmethod
    @abstractmethod
    def num_tasks(plan: PreparationPlan) -> int:
        """The number of tasks of this stage in a plan."""

    @staticmethod
    @abstractmethod
    def subject(plan: PreparationPlan, number: int) -> str:
        """A readable description of what a task works on."""

    @abstractmethod
    def run(self, plan: PreparationPlan, number: int, task: Task) -> None:
        """Run one task, unless its result exists."""

    def __call__(self, number: int) -> None:
        """Run a task, and record its status."""
        task = Task(self.work, self.name, number)
        with task.running(), _one_thread():
            self.run(load_plan(self.work), number, task)


class Tokenize(Stage):
    """The text of a group of sections -> a part."""

    name = "tokenize"

    @staticmethod
    def num_tasks(plan: PreparationPlan) -> int:
        return len(plan.groups)

    @staticmethod
    def subject(plan: PreparationPlan, number: int) -> str:
        first, *more = plan.groups[number]
        return f"{first} and {len(more)} more" if more else str(first)

    def run(self, plan: PreparationPlan, number: int, task: Task) -> None:
        folder = part_folder(self.work, number)
        if finished_part(folder) is None:
            write_part(
                folder,
                plan.groups[number],
                work_tokenizer(self.work),
                load_splitter(self.work / SPLITTER_FILE),
                plan.text,
                plan.options["near_duplicates"],
                task.progress,
            )


class Assemble(Stage):
    """All parts -> the stores with training and held-out documents."""

    name = "assemble"

    @staticmethod
    def num_tasks(plan: PreparationPlan) -> int:
        return 1

    @staticmethod
    def subject(plan: PreparationPlan, number: int) -> str:
        return f"{', '.join(STORES.values())} in {plan.out}"

    def run(self, plan: PreparationPlan, number: int, task: Task) -> None:
        note = self.work / "assembled.json"
        if note.exists():
            for folder in json.loads(note.read_bytes())["stores"]:
                TokenStore(plan.out / folder)
            return
        parts = [part_folder(self.work, part) for part in range(len(plan.groups))]
        hashes = document_hashes(parts)
        duplicates = exact_duplicates(hashes)
        counts = {"documents": len(hashes), "exact_duplicates": int(duplicates.sum())}
        if plan.options["near_duplicates"]:
            duplicates |= near_duplicates(near_duplicate_bands(parts))
            counts["near_duplicates"] = int(duplicates.sum()) - counts["exact_duplicates"]
        if not plan.options["remove_duplicates"]:
            duplicates[:] = False
        counts["removed"] = int(duplicates.sum())
        test = held_out(hashes, plan.options["test_fraction"], ~duplicates)
        chosen = {TRAINING: ~duplicates & ~test, TEST: test}
        targets = {
            folder: (plan.out / folder, chosen[split])
            for split, folder in STORES.items()
            if split == TRAINING or plan.options["test_fraction"]
        }
        _check_shards(plan, {split: int(documents.sum()) for split, documents in chosen.items()})
        stores = assemble(parts, targets, {"sources": plan.sources})
        write_atomically(note, json.dumps({"counts": counts, "stores": stores}).encode())


class WriteShards(Stage):
    """Some documents of a store -> a shard."""

    name = "shards"

    @staticmethod
    def num_tasks(plan: PreparationPlan) -> int:
        return len(plan.shards)

    @staticmethod
    def subject(plan: PreparationPlan, number: int) -> str:
        shard = plan.shards[number]
        return f"{plan.shard_file(shard)} of {plan.recipes[shard.recipe].seq_length} tokens"

    def run(self, plan: PreparationPlan, number: int, task: Task) -> None:
        shard, note = plan.shards[number], self.work / "shards" / f"{number:05d}.json"
        tokenizer = work_tokenizer(self.work)
        path = shard_folder(plan, shard.recipe, tokenizer) / plan.shard_file(shard)
        if note.exists() and _is_whole(path, json.loads(note.read_bytes())):
            return
        store = TokenStore(plan.out / STORES[shard.split])
        ranges = document_ranges(store, shard.count)
        written: dict[str, Any] = {}  # stays empty if a small text has fewer documents than shards
        if shard.index < len(ranges):
            recipe = plan.recipes[shard.recipe]
            written = write_shard(store, tokenizer, recipe, ranges[shard.index], path)
        note.parent.mkdir(exist_ok=True)
        write_atomically(note, json.dumps(written).encode())


class Finish(Stage):
    """Writes the manifests; the last one marks the output as complete."""

    name = "finish"

    @staticmethod
    def num_tasks(plan: PreparationPlan) -> int:
        return 1

    @staticmethod
    def subject(plan: PreparationPlan, number: int) -> str:
        return f"{MANIFEST_FILE} in {plan.out}"

    def run(self, plan: PreparationPlan, number: int, task: Task) -> None:
        for left_behind in plan.out.rglob(".*.tmp"):  # by a killed process
            left_behind.unlink(missing_ok=True)
        tokenizer = work_tokenizer(self.work)
        assembled = json.loads((self.work / "assembled.json").read_bytes())
        shards: dict[str, Any] = {}
        for recipe in range(len(plan.recipes)):
            folder = shard_folder(plan, recipe, tokenizer)
            shards[folder.name] = self._write_shard_manifest(plan, recipe, folder, tokenizer)
        tokenizer.save(plan.out / TOKENIZER_FOLDER)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "plan": plan.key,
            "reader": plan.reader,
            "tokenizer": tokenizer.fingerprint,
            "options": plan.options,
            "sources": plan.sources,
            **assembled,
            "shards": shards,
        }
        write_atomically(plan.out / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())

    def _write_shard_manifest(
        self, plan: PreparationPlan, recipe: int, folder: Path, tokenizer: TokenizerSpec
    ) -> dict[str, Any]:
        """Write the manifest of a phase, beside its tokenizer so that the folder can be moved; returns it."""
        files = {}
        for number, shard in enumerate(plan.shards):
            written = json.loads((self.work / "shards" / f"{number:05d}.json").read_bytes())
            if shard.recipe == recipe and written:
                files[plan.shard_file(shard)] = written
        counts: Counter[str] = Counter()
        for written in files.values():
            counts.update({what: n for what, n in written.items() if what != "sha256"})
        tokenizer.save(folder / TOKENIZER_FOLDER)
        manifest = {
            "format": shard_manifest.FORMAT,
            "version": shard_manifest.VERSION,
            "tokenizer": tokenizer.fingerprint,
            "recipe": asdict(plan.recipes[recipe]),
            "counts": counts,
            "files": files,
        }
        write_atomically(folder / shard_manifest.MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
        return {"counts": counts, "files": files}


_work_tokenizer: dict[tuple[Path, int], TokenizerSpec] = {}  # at most one, that of the current plan

STAGES: tuple[type[Stage], ...] = (Tokenize, Assemble, WriteShards, Finish)


def part_folder(work: Path, number: int) -> Path:
    """The folder of the part of a group of sections."""
    return work / "parts" / f"{number:05d}"


def work_tokenizer(work: Path, opened: TokenizerSpec | None = None) -> TokenizerSpec:
    """The tokenizer of a preparation, which keeps its cache of words from task to task in a process.

    Args:
        opened: the same tokenizer, if this process has already opened it.
    """
    key = work, (work / PLAN_FILE).stat().st_mtime_ns
    if key not in _work_tokenizer:
        _work_tokenizer.clear()
        _work_tokenizer[key] = opened or load_tokenizer(work / "tokenizer")
    return _work_tokenizer[key]


def shard_folder(plan: PreparationPlan, recipe: int, tokenizer: TokenizerSpec) -> Path:
    """The folder of a phase, whose name says whether the text is lower-cased."""
    return plan.out / plan.recipes[recipe].folder_name(lower_case=not keeps_capitals(tokenizer))


def _check_shards(plan: PreparationPlan, num_documents: dict[str, int]) -> None:
    """Raise an error if there are not enough documents for the shards."""
    if not any(num_documents.values()):
        return  # there is no text, as `assemble` says
    wanted = plan.options["num_shards"]
    if plan.recipes and wanted and num_documents[TRAINING] < wanted:
        raise UsageError(
            "more shards than documents", where="--num_shards", found=wanted, expected=num_documents[TRAINING]
        )
    if not num_documents[TRAINING] or (plan.options["test_fraction"] and not num_documents[TEST]):
        raise DataError(
            "too few documents to hold any out",
            where=plan.out,
            found=sum(num_documents.values()),
            expected="two different ones",
            fix="check where documents end (--text_layout); or hold out none: --test_fraction 0 of prepare, "
            "--eval_data of pretrain",
        )


def _is_whole(path: Path, written: dict[str, Any]) -> bool:
    return not written or (path.is_file() and sha256_of(path) == written["sha256"])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tokenize in one thread, because every core runs its own task."""
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
