"""The manifest of shards written by `nemo-bert prepare`: the files, and the tokenizer that made them.

    manifest.json  {"format": "nemo-bert shards", "version": 1, "tokenizer": its fingerprint,
                    "files": {"wiki/wiki_training_0.hdf5": {"bytes": 123, ...}, ...}, ...}
    bert/          the tokenizer

Shards of other scripts have none, and need none.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo.collections.nlp.data.tokenizers.base import TokenizerSpec
from nemo.collections.nlp.data.tokenizers.files import TOKENIZER_FOLDER
from nemo.utils.errors import DataError
from nemo.utils.strict import parse_json

FORMAT, VERSION = "nemo-bert shards", 1
MANIFEST_FILE = "manifest.json"
_FOLDERS_ABOVE = 2  # from a shard to the prepared folder, through one named after the text


@dataclass(frozen=True)
class ShardManifest:
    """The content of a manifest.

    Attributes:
        folder: folder of the manifest.
        tokenizer: fingerprint of the tokenizer.
        sizes: file, relative to `folder` -> bytes.
    """

    folder: Path
    tokenizer: str
    sizes: Mapping[str, int]

    def check_files(self, path: Path) -> None:
        """Check the files at or below `path` against the manifest.

        Raises:
            DataError: one is missing, or has another size.
        """
        for name, size in self.sizes.items():
            file = self.folder / name
            if not file.is_relative_to(os.path.abspath(path)):
                continue
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                raise DataError(
                    "a shard is missing" if found is None else "the size of a shard has changed",
                    where=file,
                    found="nothing" if found is None else f"{found:,} bytes",
                    expected=f"{size:,} bytes, as {self.folder / MANIFEST_FILE} says",
                    fix="copy it again, or run nemo-bert prepare again",
                )

    def check_tokenizer(self, tokenizer: TokenizerSpec) -> None:
        """Refuse a tokenizer other than the one that made the shards.

        Raises:
            DataError: its fingerprint differs.
        """
        if tokenizer.fingerprint != self.tokenizer:
            raise DataError(
                "made with a different tokenizer",
                where=self.folder / MANIFEST_FILE,
                found=self.tokenizer,
                expected=f"{tokenizer.fingerprint}, that of the given tokenizer",
                fix=f"give --tokenizer {self.folder / TOKENIZER_FOLDER}",
            )


def manifests_of(path: Path) -> list[ShardManifest]:
    """The manifests for the shards at `path`, in a folder above, in it, or in its subfolders.

    Args:
        path: a shard or a folder.

    Raises:
        DataError: one is damaged.
    """
    path = Path(os.path.abspath(path))
    around = path.parents[:_FOLDERS_ABOVE]
    inside = [file.parent for file in sorted(path.glob(f"*/{MANIFEST_FILE}"))]
    read = [_read(folder) for folder in (*around, path, *inside)]
    return [manifest for manifest in read if manifest is not None]


def _read(folder: Path) -> ShardManifest | None:
    file = folder / MANIFEST_FILE
    if not file.is_file():
        return None
    try:
        content: Any = parse_json(file.read_bytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            return None  # a manifest of something else
        if content["version"] != VERSION:
            raise DataError(
                "written by another version of nemo-bert",
                where=file,
                found=f"version {content['version']}",
                expected=VERSION,
            )
        sizes = {name: int(entry["bytes"]) for name, entry in content["files"].items()}
        for name in sizes:
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise ValueError(f"a file outside of its folder, {name!r}")
        return ShardManifest(folder, str(content["tokenizer"]), sizes)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        fix = "copy it again, or run nemo-bert prepare again"
        raise DataError("damaged manifest", where=file, found=str(problem), fix=fix) from problem
