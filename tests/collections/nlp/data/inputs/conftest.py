"""Files of any content, and what is read from them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nemo.collections.nlp.data.inputs import (
    SectionReader,
    TextOptions,
    read_documents,
    sections_of,
    sources_of,
)

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
def in_sections() -> Read:
    """The documents of a corpus, read section by section."""

    def read(path: Path, section_bytes: int, **options: object) -> list[list[str]]:
        text = TextOptions(**options)
        sections = sections_of(sources_of(path, text), section_bytes)
        return [document for section in sections for document in SectionReader(section, text).documents()]

    return read
