"""Text that lies elsewhere: a web server of this test, and fsspec's file system in memory."""

import functools
import gzip
import http.server
import random
import threading
from pathlib import Path

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from nemo.collections.nlp.data.inputs import SectionReader, read_documents, sections_of, sources_of
from nemo.utils.errors import DataError, MissingFileError, UsageError

TEXT = b"".join(b"Document %d.\nIt ends here.\n\n" % i for i in range(300))


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files; of those in `parts/` also from a byte on; those named cut* end too early."""

    def log_message(self, *args: object) -> None:
        pass

    def send_head(self):
        parts = self.headers.get("Range", "").removeprefix("bytes=").split("-")
        if not self.path.startswith("/parts/") or not parts[0]:
            return super().send_head()
        file = Path(self.translate_path(self.path)).open("rb")  # noqa: SIM115 - the caller closes it
        size = file.seek(0, 2)
        start, stop = int(parts[0]), min(int(parts[1] or size - 1), size - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop}/{size}")
        self.send_header("Content-Length", str(stop + 1 - start))
        self.end_headers()
        file.seek(start)
        self.stop = stop
        return file

    def copyfile(self, source, outputfile) -> None:
        if "cut" in self.path:
            outputfile.write(source.read(1000))
        elif hasattr(self, "stop"):
            outputfile.write(source.read(self.stop + 1 - source.tell()))
        else:
            super().copyfile(source, outputfile)


@pytest.fixture
def server(tmp_path):
    """A folder, and the address where a server shows it."""
    (tmp_path / "parts").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("folder", ["", "parts/"])
def test_a_file_of_a_web_server_reads_like_one_here(server, folder):
    place, address = server
    (place / folder / "a.txt").write_bytes(TEXT)
    (place / folder / "b.txt.gz").write_bytes(gzip.compress(TEXT))
    here = list(read_documents(place / folder / "a.txt"))
    assert len(here) == 300
    for name in ("a.txt", "b.txt.gz", "a.txt?key=1"):
        assert list(read_documents(f"{address}/{folder}{name}")) == here
    (place / folder / "c.csv").write_bytes(b"id,text\n1,One.\n")
    assert list(read_documents(f"{address}/{folder}c.csv?key=1.txt")) == [["One."]]
    sections = sections_of(sources_of(f"{address}/{folder}a.txt"), 1000)
    assert len(sections) == -(-len(TEXT) // 1000)
    assert [document for section in sections for document in SectionReader(section).documents()] == here


def test_a_folder_of_a_web_server_gives_its_files(server):
    place, address = server
    for name in ("b.txt", "a.txt", "README.txt", "notes.md"):
        (place / "parts" / name).write_bytes(TEXT)
    assert [source.name for source in sources_of(f"{address}/parts/")] == ["a.txt", "b.txt"]


def test_parquet_of_a_server_that_sends_parts_is_read_and_else_refused(server):
    place, address = server
    texts = [random.Random(i).randbytes(1 << 16).hex() for i in range(100)]  # more than is sent at once
    for folder in ("", "parts/"):
        parquet.write_table(pyarrow.table({"text": texts}), place / folder / "a.parquet")
    assert list(read_documents(f"{address}/parts/a.parquet")) == [[text] for text in texts]
    with pytest.raises(DataError, match=r"cannot send parts of a file.*fix: download the file"):
        list(read_documents(f"{address}/a.parquet"))


def test_a_transfer_that_breaks_off_is_an_error(server):
    place, address = server
    (place / "cut.txt").write_bytes(TEXT)
    with pytest.raises(DataError, match=r"cut\.txt: "):
        list(read_documents(f"{address}/cut.txt"))


def test_a_missing_file_is_named_without_the_password(server, capsys):
    place, address = server
    (place / "a.txt").write_bytes(TEXT)
    secret = address.replace("://", "://user:geheim@")
    with pytest.raises(
        MissingFileError, match=r"http://127.*/gone\.txt: no such file, or its server"
    ) as told:
        sources_of(f"{secret}/gone.txt?token=geheim")
    sources = sources_of(f"{secret}/a.txt?token=geheim")
    assert "geheim" not in f"{told.value} {capsys.readouterr()} {sources[0]} {sources[0].name}"


@pytest.mark.parametrize("address", ["nonsense://x/a.txt", "s3://bucket/a.txt"])
def test_an_unsupported_address_is_an_error(address):
    with pytest.raises(UsageError, match=address):
        sources_of(address)


def test_a_folder_in_memory_reads_like_one_here():
    memory = fsspec.filesystem("memory")
    for name in ("b.txt", "a.txt", "sub/c.txt", "README.txt", ".hidden.txt", "bert/vocab.txt"):
        memory.pipe(f"/corpus/{name}", TEXT)
    try:
        sources = sources_of("memory://corpus")
        assert [source.name for source in sources] == ["a.txt", "b.txt", "sub/c.txt"]
        assert len(list(read_documents(sources))) == 900
        assert [source.name for source in sources_of("memory://corpus/*.txt")] == ["a.txt", "b.txt"]
        with pytest.raises(DataError, match="no text in this folder"):
            sources_of("memory://corpus/bert/")
    finally:
        memory.rm("/corpus", recursive=True)
