"""Checkpoints: folders that are complete or absent, and are verified before use.

    <folder>/STEP-<n>/   <stem>.safetensors ..., state.json, further files, manifest.json

A checkpoint is written under a hidden name and flushed to disk; the manifest, with the size and SHA-256 of
every file, comes last. Then the folder is renamed. So a crash leaves the previous state, and a flipped bit is
detected. There is no pickle: tensors are safetensors, the rest is JSON.
"""

import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nemo.backends.pytorch.checkpoints.manifest import (
    CHECKPOINT,
    MANIFEST,
    PLAIN_NAME,
    STATE,
    TENSORS,
    CheckpointManifest,
    FileRecord,
    OtherVersionError,
    is_whole,
    read_json,
    read_tensors,
    record_of,
    to_json,
    verify,
    write_manifest,
)
from nemo.utils.errors import CheckpointError, UsageError
from nemo.utils.files import FULL, disk_full, let_umask_decide, storage_errors, sync
from nemo.utils.logging import logging

_LEFTOVER = re.compile(r"\.STEP-[0-9]+\.[0-9a-f]{32}\.tmp")
_OF_THIS_IMPORT = uuid4().hex[:16]
_numbers = itertools.count()
_SPARE_BYTES = 2**20  # headers, manifest, and overhead of the file system

Content = bytes | str | os.PathLike[str]


class _State(dict[str, Any]):
    """A checkpoint's state; a missing key is a CheckpointError that names the file."""

    def __init__(self, content: Mapping[str, Any], source: Path):
        super().__init__(content)
        self._source = source

    def __missing__(self, key: str) -> Any:
        raise CheckpointError("not the state of a run", where=self._source, found=f"no {key!r}")


def save(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    extra_files: Mapping[str, Content] | None = None,
) -> Path:
    """Write `<folder>/STEP-<step>` and return it.

    A checkpoint that already exists with the same tensors is kept.

    Args:
        folder: the folder of checkpoints; created if needed.
        step: number of finished steps.
        tensors: file stem -> tensors by name, for example `{"BERT": bert.state_dict()}`.
        state: everything else needed to resume; must be valid JSON.
        extra_files: name -> bytes, or the path of a file to copy.

    Raises:
        StorageError: the disk is full or fails; nothing is left behind.
        CheckpointError: tensors share memory, or the step exists with different tensors.
        UsageError: a name that is not a plain file name.
    """
    extra_files = extra_files or {}
    _check_names([STATE, *(stem + TENSORS for stem in tensors), *extra_files])
    for stem, named in tensors.items():
        _check_unshared(stem, named)

    target = folder / f"STEP-{step}"
    aside = _hidden_name(target)
    with storage_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        needed = _check_room(folder, tensors, extra_files)
        try:
            aside.mkdir()
            _write_files(aside, tensors, state, extra_files)
            records = {path.name: record_of(path) for path in sorted(aside.iterdir())}
            write_manifest(aside, CheckpointManifest(step, records))
            sync(aside)
            if not _is_there(target, records):
                aside.rename(target)
                sync(folder)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(folder, needed) from error
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` by step, intact or damaged; may include links."""
    if not folder.is_dir():
        return []
    found = [
        path
        for path in folder.iterdir()
        # Include dangling links, or the run would silently start from scratch.
        if CHECKPOINT.fullmatch(path.name) and (path.is_dir() or path.is_symlink())
    ]
    return sorted(found, key=_step_of)


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Verify a checkpoint and return its tensors by file stem, on the CPU, and its state.

    Reading a missing key of the state raises a CheckpointError.

    Raises:
        CheckpointError: as `verify`.
    """
    manifest = verify(path)
    stems = [name.removesuffix(TENSORS) for name in manifest.files if name.endswith(TENSORS)]
    tensors = {stem: read_tensors(path / f"{stem}{TENSORS}") for stem in stems}
    return tensors, _State(read_json(path / STATE), path / STATE)


def latest_good(folder: Path, pattern: str = "") -> Path | None:
    """The newest intact checkpoint with `pattern` in its name; None if there is no checkpoint.

    Newer, damaged ones are renamed to `bad-STEP-<n>`, and the reason is written to a file inside.

    Raises:
        CheckpointError: there are checkpoints, but none is intact, so starting from scratch would lose work;
            or one was written by a different version.
    """
    bad: dict[Path, CheckpointError] = {}
    for path in reversed([path for path in list_checkpoints(folder) if pattern in path.name]):
        try:
            verify(path)
        except OtherVersionError:
            raise
        except CheckpointError as error:
            bad[path] = error
            continue
        for bad_path, reason in bad.items():
            _set_aside(bad_path, reason, instead=path.name)
        return path
    if bad:
        raise CheckpointError(
            f"none of the {len(bad)} checkpoints is usable",
            where=folder,
            found="; ".join(map(str, bad.values())),
            fix="restore a backup, or start over in another folder",
        )
    return None


def find(path: Path, pattern: str = "") -> Path | None:
    """The checkpoint that `path` refers to; None if there is none.

    Args:
        path: one `STEP-<n>`; or a folder of them, or a work folder with `checkpoints` in it, in which
            `latest_good` chooses.
        pattern: as in `latest_good`.

    Raises:
        CheckpointError: the given checkpoint is damaged; or as in `latest_good`.
    """
    if (path / MANIFEST).is_file() or (CHECKPOINT.fullmatch(path.name) and path.is_dir()):
        verify(path)
        return path
    checkpoints = path / "checkpoints"
    return latest_good(checkpoints if checkpoints.is_dir() else path, pattern)


def prune(folder: Path, keep: int, spared: int | None = None) -> None:
    """Delete all checkpoints except the newest `keep` and that of step `spared`.

    Damaged checkpoints, links and other files are neither counted nor deleted.

    Leftovers of this process's failed deletions are deleted too, so it must not be saving meanwhile.

    Raises:
        UsageError: `keep` is below 1.
        StorageError: a file cannot be deleted.
    """
    if keep < 1:
        raise UsageError("out of range", where="checkpoints to keep", found=keep, expected="1 or more")
    _remove_hidden(folder, _of_this_process())
    whole = [path for path in list_checkpoints(folder) if not path.is_symlink() and is_whole(path)]
    for path in [path for path in whole[:-keep] if _step_of(path) != spared]:
        with storage_errors(path):
            # Rename first: a half-deleted checkpoint must not look like a checkpoint.
            shutil.rmtree(path.rename(_hidden_name(path)))


def remove_leftovers(folder: Path) -> None:
    """Delete the leftovers of a killed `save` or `prune`. The caller must hold the work folder's lock.

    Raises:
        StorageError: a file cannot be deleted.
    """
    _remove_hidden(folder)


def _remove_hidden(folder: Path, of: str = "") -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        is_meant = _LEFTOVER.fullmatch(path.name) and of in path.name
        if is_meant and path.is_dir() and not path.is_symlink():
            with storage_errors(path):
                shutil.rmtree(path)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("STEP-"))


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_of_this_process()}{next(_numbers):08x}.tmp")


def _of_this_process() -> str:
    """24 hexadecimal digits that identify this process; a fork has different ones."""
    return f"{_OF_THIS_IMPORT}{os.getpid():08x}"


def _check_names(names: Iterable[str]) -> None:
    seen = {MANIFEST}
    for name in names:
        if not PLAIN_NAME.fullmatch(name) or name in seen:
            raise UsageError(
                "invalid name for a checkpoint file",
                found=repr(name),
                expected="a unique name of letters, digits and _ . + -",
            )
        seen.add(name)


def _check_unshared(stem: str, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tied weights under two names, as they would be untied when loaded."""
    spans = []
    for name, tensor in tensors.items():
        if tensor.numel():
            steps = zip(tensor.shape, tensor.stride(), strict=True)
            elements = 1 + sum((length - 1) * stride for length, stride in steps)
            start = tensor.data_ptr()
            spans.append((str(tensor.device), start, start + elements * tensor.itemsize, name))
    spans.sort()
    for (device, _, end, name), (next_device, start, _, next_name) in itertools.pairwise(spans):
        if device == next_device and start < end:
            raise CheckpointError(
                "two tensors share memory",
                where=f"{stem}{TENSORS}",
                found=f"{name} and {next_name}",
                fix="save tied weights under one name",
            )


def _check_room(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    extra_files: Mapping[str, Content],
) -> int:
    """The size of a checkpoint in bytes. Raises a StorageError if the disk has less free space."""
    needed = _SPARE_BYTES + sum(t.nbytes for named in tensors.values() for t in named.values())
    for content in extra_files.values():
        with storage_errors(content if not isinstance(content, bytes) else folder):
            needed += len(content) if isinstance(content, bytes) else os.stat(content).st_size
    if shutil.disk_usage(folder).free < needed:
        raise disk_full(folder, needed)
    return needed


def _write_files(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    extra_files: Mapping[str, Content],
) -> None:
    (folder / STATE).write_bytes(to_json(state))
    for stem, named in tensors.items():
        path = folder / f"{stem}{TENSORS}"
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in named.items()}, path)
        except SafetensorError as error:
            raise _as_os_error(error, path) from error
    for name, content in extra_files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            shutil.copyfile(content, folder / name)
    let_umask_decide(folder)
    for path in folder.iterdir():
        sync(path)


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """The error with the system's error number, which safetensors reports only in its text."""
    number = re.search(r"\(os error ([0-9]+)\)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error), str(path))


def _is_there(target: Path, records: Mapping[str, FileRecord]) -> bool:
    """Whether `target` exists with the same tensors. A damaged one is renamed."""
    if not os.path.lexists(target):
        return False
    try:
        there = verify(target).files
    except CheckpointError as error:
        _set_aside(target, error, instead="a new one")
        return False
    names = {name for name in (*there, *records) if name.endswith(TENSORS)}
    if any(there.get(name) != records.get(name) for name in names):
        raise CheckpointError(
            "this step was already saved with different weights",
            where=target,
            fix="train in another folder, or move the old checkpoints away",
        )
    return True


def _set_aside(path: Path, error: CheckpointError, instead: str) -> None:
    """Rename a damaged checkpoint to the first free `bad-<name>`, with the reason inside."""
    aside, number = path.with_name(f"bad-{path.name}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"bad-{path.name}.{number}")
    logging.warning(f"{error}; renaming {path.name} to {aside.name}, using {instead}")
    try:
        path.rename(aside)
        (aside / "reason.txt").write_text(f"{error}\n", encoding="utf-8")
    except OSError as failure:
        logging.warning(f"{path} cannot be renamed: {failure}")
