"""Plain text -> documents: lists of paragraphs."""

from collections.abc import Iterator

from nemo.collections.nlp.data.inputs.documents import MAX_DOCUMENT_CHARS, MAX_LINE_BYTES, Oddities
from nemo.collections.nlp.data.inputs.encodings import likely_encoding
from nemo.collections.nlp.data.inputs.invisible import INVISIBLE, visible
from nemo.collections.nlp.data.inputs.layouts import LAYOUTS
from nemo.collections.nlp.data.inputs.lines import LineBlock
from nemo.collections.nlp.data.inputs.stored import StoredFile
from nemo.utils.errors import DataError

_ENCODING_BYTES = 1 << 16
_REPLACEMENT = "\ufffd".encode()


def read_text(
    file: StoredFile, layout_name: str, start: int, stop: int | None, invalid_bytes: str, odd: Oddities
) -> Iterator[list[str]]:
    """The documents whose first line begins in bytes `start` to `stop`. See `layouts` for what a document is.

    A document that continues beyond `stop` is read to its end; running text is cut at `stop`.

    Raises:
        DataError: the text is not UTF-8.
    """
    layout = LAYOUTS[layout_name]
    starts, is_dropped, title_of = layout.starts_document, layout.is_dropped, layout.title
    is_running = layout_name == "running"
    has_begun = start == 0 or is_running
    document: list[str] = []
    size = 0
    title = None  # title of the document, until its first line of text
    for text, is_beyond in _lines(file, start, stop, invalid_bytes, odd):
        seen = text
        if text and (text[0] in INVISIBLE or text[-1] in INVISIBLE):
            seen = visible(text)
        starts_document = starts(seen)
        if is_beyond and (starts_document or is_running or not has_begun):
            break
        has_begun = has_begun or bool(starts_document)
        if document and (starts_document or size > MAX_DOCUMENT_CHARS):
            yield document
            document, size = [], 0
        if starts_document and title_of is not None:
            title = title_of(seen)
        if seen and has_begun and (is_dropped is None or not is_dropped(seen)):
            if title is None or seen != title:
                document.append(text)
                size += len(text)
            title = None
    if document:
        yield document


def decoded(block: LineBlock, file: StoredFile, start: int, invalid_bytes: str, odd: Oddities) -> str:
    """Decode a block of lines of the range that begins at byte `start`.

    Raises:
        DataError: the text is not UTF-8, and invalid bytes must not be replaced.
    """
    try:
        text = block.data.decode("utf-8", "strict" if invalid_bytes == "error" else "replace")
    except UnicodeDecodeError as error:
        num_ends = block.num_lines_before + block.data.count(b"\n", 0, error.start)
        where = f"{file}:{file.line_number(start, num_ends)}"
        raise not_utf8(block.data, error.start, block.offset + error.start, where) from None
    if not block.offset:
        text = text.lstrip("\ufeff")
    is_counted = not block.is_beyond  # lines beyond are counted by the reader of their own range
    if "\0" in text:
        odd.nul_characters += is_counted * text.count("\0")
        text = text.replace("\0", "")
    if is_counted and "\ufffd" in text:
        odd.replaced_bytes += text.count("\ufffd") - block.data.count(_REPLACEMENT)
    return text


def _lines(
    file: StoredFile, start: int, stop: int | None, invalid_bytes: str, odd: Oddities
) -> Iterator[tuple[str, bool]]:
    """(stripped line, whether it begins beyond the range)"""
    for block in file.blocks(start, stop, MAX_LINE_BYTES, cut_long_lines=True):
        odd.cuts += block.is_cut and not block.is_beyond
        text = decoded(block, file, start, invalid_bytes, odd)
        for line in text.removesuffix("\n").split("\n"):
            yield line.strip(), block.is_beyond


def not_utf8(data: bytes, index: int, offset: int, where: str = "", may_replace: bool = True) -> DataError:
    """The error for an invalid byte.

    Args:
        data: lines that are not UTF-8.
        index: index of the byte in `data`.
        offset: offset of the byte in the file.
        may_replace: whether the command has `--invalid_bytes`.
    """
    line_start = data.rfind(b"\n", 0, index) + 1
    encoding = likely_encoding(data[line_start : line_start + _ENCODING_BYTES])
    iconv = f", for example with iconv -f {encoding} -t utf-8" if encoding else ""
    fix = f"convert the file{iconv}"
    if may_replace:
        fix += ", or replace such bytes (--invalid_bytes replace)"
    return DataError(
        "text that is not UTF-8",
        where=where,
        found=f"byte 0x{data[index]:02x} at offset {offset} of the file",
        fix=fix,
    )
