"""The manifest of a checkpoint: every file with its size and SHA-256, and the check against it."""

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nemo.backends.pytorch.checkpoints.fit import check_finite
from nemo.utils.errors import CheckpointError
from nemo.utils.files import sync
from nemo.utils.strict import parse_json

FORMAT, VERSION = "nemo-bert checkpoint", 1
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", ".safetensors"
CHECKPOINT = re.compile(r"STEP-(0|[1-9][0-9]*)")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_MAX_JSON_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FileRecord:
    """A file's entry in the manifest."""

    size: int
    sha256: str


@dataclass(frozen=True)
class CheckpointManifest:
    """The contents of a checkpoint: `files` by name, after `step` steps."""

    step: int
    files: dict[str, FileRecord]


class OtherVersionError(CheckpointError):
    """An undamaged checkpoint that this version cannot read."""


def verify(path: Path, contents: bool = True) -> CheckpointManifest:
    """Check a checkpoint against its manifest.

    Args:
        contents: also check the SHA-256 of every file, and that all numbers in tensors are finite; else
            check sizes only. Files that are unchanged since this process last checked them are not read.

    Raises:
        CheckpointError: a file is missing, changed or not regular, or a number is not finite.
    """
    manifest = _read_manifest(path)
    for name, record in manifest.files.items():
        file = path / name
        size = _size(file)
        if size != record.size:
            raise CheckpointError("damaged", where=file, found=f"{size} bytes", expected=record.size)
        if contents:
            status = file.lstat()
            _verify_content(file, record.sha256, (status.st_ino, status.st_size, status.st_mtime_ns))
    return manifest


def is_whole(path: Path) -> bool:
    try:
        verify(path, contents=False)
    except CheckpointError:
        return False
    return True


def record_of(path: Path) -> FileRecord:
    return FileRecord(path.stat().st_size, _sha256(path))


def write_manifest(folder: Path, manifest: CheckpointManifest) -> None:
    content = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    path = folder / MANIFEST
    path.write_bytes(to_json(content | {"sha256": _seal(content)}))
    sync(path)


def _read_manifest(folder: Path) -> CheckpointManifest:
    path = folder / MANIFEST
    content = read_json(path)
    if content.pop("sha256", None) != _seal(content) or content.get("format") != FORMAT:
        raise CheckpointError("damaged, or not a checkpoint manifest", where=path)
    if content.get("version") != VERSION:
        raise OtherVersionError(
            "unsupported checkpoint version",
            where=path,
            found=content.get("version"),
            expected=VERSION,
            fix="use the version of nemo-bert that wrote it",
        )
    try:
        files = {name: FileRecord(**record) for name, record in content["files"].items()}
        manifest = CheckpointManifest(content["step"], files)
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"not a checkpoint manifest: {error}", where=path) from error
    is_own = folder.name == f"STEP-{manifest.step}" or not CHECKPOINT.fullmatch(folder.name)
    if not (is_own and STATE in files and all(map(PLAIN_NAME.fullmatch, files))):
        raise CheckpointError(
            "the manifest of a different checkpoint",
            where=path,
            found=f"step {manifest.step}, files {', '.join(files)}",
        )
    return manifest


def _seal(content: Mapping[str, Any]) -> str:
    """The manifest's own checksum."""
    return hashlib.sha256(to_json(content)).hexdigest()


def to_json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object with unique keys and finite numbers.

    Raises:
        CheckpointError: not a regular file, too large, or not such an object.
    """
    if _size(path) > _MAX_JSON_BYTES:
        raise CheckpointError("too large", where=path, found=_size(path), expected=_MAX_JSON_BYTES)
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"invalid JSON: {error}", where=path) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a JSON object", where=path)
    return content


def _size(path: Path) -> int:
    """Size of a regular file; a link or a folder in its place is an error."""
    try:
        status = path.lstat()
    except OSError as error:
        raise CheckpointError(f"damaged: {error.strerror}".lower(), where=path) from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("not a regular file", where=path)
    return status.st_size


@lru_cache(maxsize=1024)
def _verify_content(path: Path, sha256: str, identity: tuple[int, ...]) -> None:
    """Raise a CheckpointError if a file is damaged; cached while the file's `identity` is the same."""
    if _sha256(path) != sha256:
        raise CheckpointError("damaged: its content has changed", where=path)
    if path.suffix == TENSORS:
        check_finite(read_tensors(path), path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"tensors cannot be read: {error}", where=path) from error


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from error
