"""`prepare(options)`: the stages of `nemo-bert prepare`, in order."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.hdf5 import manifest as shard_manifest
from nemo.collections.nlp.data.inputs import Source, TextOptions, sources_of
from nemo.collections.nlp.data.inputs.options import READER
from nemo.collections.nlp.data.samples.pairs import warning_of_few_documents
from nemo.collections.nlp.data.store.store_builder import excerpt_of
from nemo.collections.nlp.data.text.sentences import make_splitter, save_splitter
from nemo.collections.nlp.data.tokenizers import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.choice import TokenizerRequest, find_tokenizer
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.collections.nlp.data.tokenizers.suitability import warning_of_lost_marks_in, warning_of_unknown
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from nemo.collections.nlp.preparation.engines import run_stages
from nemo.collections.nlp.preparation.options import PrepareOptions
from nemo.collections.nlp.preparation.plan import (
    PLAN_FILE,
    STORES,
    TRAINING,
    PreparationPlan,
    load_plan,
    make_plan,
    save_plan,
)
from nemo.collections.nlp.preparation.stages import (
    FORMAT,
    MANIFEST_FILE,
    SPLITTER_FILE,
    STAGES,
    work_tokenizer,
)
from nemo.utils.errors import DataError, StorageError, UsageError
from nemo.utils.files import storage_errors
from nemo.utils.lock import WorkFolderLock
from nemo.utils.logging import logging
from nemo.utils.progress import working
from nemo.utils.refusal import RestoreOnFailure
from nemo.utils.wording import quantity

SAMPLE_BYTES = 100_000_000  # of text from which a vocabulary is learned, all in memory at once
WORK_FOLDER, LOCK_FILE = ".work", ".lock"


def prepare(options: PrepareOptions, tokenizer: TokenizerSpec | None = None) -> dict[str, Any]:
    """Prepare text, or resume a stopped preparation; returns the manifest.

    If the same text was already prepared with the same options, nothing is done.

    Args:
        tokenizer: that of the options, if it is open already.

    Raises:
        DataError: the text is not usable.
        StorageError: the folder cannot be written, or contains something else.
        BusyError: another run is using the folder.
        UsageError: the tokenizer or the engine is not available.
    """
    out = Path(options.out)
    _refuse_other_things(out)
    sources = sources_of(options.inputs, TextOptions.of(options))
    megabytes = sum(max(source.num_bytes, 0) for source in sources) / 1e6
    logging.info("%s, %.1f MB", quantity(len(sources), "file"), megabytes)
    with WorkFolderLock(out), RestoreOnFailure(out, made=[WORK_FOLDER]) as before:
        if tokenizer is None:
            request = TokenizerRequest(named=options.tokenizer, train_in=out / WORK_FOLDER / "tokenizer")
            tokenizer = find_tokenizer(request, options.do_lower_case)
        with working("planning"):
            plan = make_plan(options, sources, tokenizer.fingerprint if tokenizer else options.tokenizer)
        if (done := _read_manifest(out)) is not None:
            if done["plan"] == plan.key:
                logging.info("%s already exists, made from this text with these options", out)
                if done.get("reader") != READER:
                    logging.warning(
                        "%s was made by a version that splits text differently; train on it as it is, "
                        "or delete it and prepare the text again",
                        out,
                    )
                return done
            raise StorageError(
                "contains data prepared from different text or with different options",
                where=out,
                fix="use another --out, or delete it",
            )
        work = out / WORK_FOLDER
        if not _is_begun(work, plan):
            _forget(out)
            with storage_errors(work):
                work.mkdir()
            with working("training the tokenizer, learning to split sentences"):
                _begin(work, plan, options, sources, tokenizer)
        before.begins()
        try:
            run_stages(STAGES, plan, work, options)
        except (DataError, UsageError):
            _forget(out)  # resuming would fail in the same way
            raise
        manifest = _read_manifest(out)
        if manifest is None:
            raise DataError("the manifest is missing", where=out / MANIFEST_FILE)
        shutil.rmtree(work, ignore_errors=True)
        _tell(manifest, out)
        return manifest


def _refuse_other_things(out: Path) -> None:
    """Raise a StorageError if the folder contains anything not made by this command."""
    ours = {MANIFEST_FILE, TOKENIZER_FOLDER, WORK_FOLDER, LOCK_FILE, *STORES.values()}
    with storage_errors(out):
        entries = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    is_ours = {WORK_FOLDER, MANIFEST_FILE} & set(entries)
    for name in entries:
        hidden = name.startswith(".")  # left by a killed process
        if name != LOCK_FILE and not (is_ours and (name in ours or name.startswith("hdf5_") or hidden)):
            raise StorageError("not an empty folder", where=out, found=name, fix="use a new one, or empty it")


def _read_manifest(out: Path) -> dict[str, Any] | None:
    path = out / MANIFEST_FILE
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] == FORMAT:
            return manifest
    except (ValueError, KeyError, TypeError):
        pass
    raise StorageError("not the manifest of prepared data", where=path, fix="use another --out, or delete it")


def _is_begun(work: Path, plan: PreparationPlan) -> bool:
    """Whether the same plan was begun and stopped."""
    if not (work / PLAN_FILE).exists():
        return False
    try:
        is_same = load_plan(work) == plan
    except DataError:
        is_same = False
    message = "resuming" if is_same else "discarding unfinished work with different text or options"
    logging.info("%s: %s", plan.out, message)
    return is_same


def _forget(out: Path) -> None:
    """Remove what a stopped run of this command left; see `_refuse_other_things`."""
    with storage_errors(out):
        for entry in out.iterdir():
            if entry.name != LOCK_FILE:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _begin(
    work: Path,
    plan: PreparationPlan,
    options: PrepareOptions,
    sources: Sequence[Source],
    tokenizer: TokenizerSpec | None,
) -> None:
    """Create everything that tasks need; the plan is written last.

    Args:
        tokenizer: None to train one.
    """
    if tokenizer is None:
        tokenizer = train_tokenizer(
            options.tokenizer,
            sources,
            work / "tokenizer",
            options.vocab_size,
            options.sample_size,
            do_lower_case=bool(options.do_lower_case),
            text=plan.text,
            sample_bytes=SAMPLE_BYTES,
        )
    else:
        tokenizer.save(work / "tokenizer")
    excerpt = excerpt_of([section for group in plan.groups for section in group], plan.text)
    if lost := warning_of_lost_marks_in(excerpt, tokenizer):
        logging.warning("%s", lost)
    save_splitter(make_splitter(excerpt, plan.text.sentences), work / SPLITTER_FILE)
    save_plan(plan, work)
    work_tokenizer(work, tokenizer)


def _tell(manifest: dict[str, Any], out: Path) -> None:
    """Log what was prepared, and how to use it."""
    documents = manifest["counts"]
    duplicates = f"{documents['exact_duplicates']:,} exact duplicates"
    if "near_duplicates" in documents:
        duplicates += f" and {documents['near_duplicates']:,} near-duplicates"
    if documents["exact_duplicates"] or documents.get("near_duplicates"):
        is_removed = manifest["options"]["remove_duplicates"]
        duplicates += ", removed" if is_removed else ", kept (--remove_duplicates drops them)"
    logging.info("%s documents, %s", f"{documents['documents']:,}", duplicates)
    for folder, store in manifest["stores"].items():
        counts = store["counts"]
        logging.info(
            "%s: %s documents, %s sentences, %s tokens, %.2f%% unknown, unigram entropy %.3f nat",
            out / folder,
            *(f"{counts[what]:,}" for what in ("documents", "sentences", "tokens")),
            100 * counts["unknown_tokens"] / counts["tokens"],
            store["unigram_entropy"],
        )
        few = warning_of_few_documents(counts["documents"])
        if few and folder == STORES[TRAINING]:
            logging.warning("%s: %s", out / folder, few)
        if unknown := warning_of_unknown(counts["unknown_tokens"] / counts["tokens"]):
            logging.warning("%s: %s", out / folder, unknown)
    for folder, shards in manifest["shards"].items():
        counts = shards["counts"]
        positions = counts["rows"] * _seq_length(out / folder)
        logging.info(
            "%s: %d shards, %s rows, %.0f%% random pairs, %.0f%% padding",
            out / folder,
            len(shards["files"]),
            f"{counts['rows']:,}",
            100 * counts["random_pairs"] / counts["rows"],
            100 * counts["padding"] / positions,
        )


def _seq_length(folder: Path) -> int:
    manifest = json.loads((folder / shard_manifest.MANIFEST_FILE).read_bytes())
    return manifest["recipe"]["seq_length"]
