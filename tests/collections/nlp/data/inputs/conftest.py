"""Files of any content, and what is read from them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nemo.collections.nlp.data.inputs import PieceReader, TextOptions, pieces_of, read_documents, sources_of

Read = Callable[..., list[list[str]]]


@pytest.fixture
def documents_of(tmp_path: Path) -> Read:
    """The documents of one file with this content."""

    def read(content: bytes | str, name: str = "text.txt", **options: object) -> list[list[str]]:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_documents(file, TextOptions(**options)))

    return read


@pytest.fixture
def in_pieces() -> Read:
    """The documents of a corpus, read piece by piece."""

    def read(path: Path, piece_bytes: int, **options: object) -> list[list[str]]:
        text = TextOptions(**options)
        pieces = pieces_of(sources_of(path, text), piece_bytes)
        return [document for piece in pieces for document in PieceReader(piece, text).documents()]

    return read
