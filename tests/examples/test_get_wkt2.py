"""get_wkt2.sh against a server on this machine: what a user gets, and what each failure says."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import PATIENCE

SCRIPT = Path(__file__).parents[2] / "examples/nlp/language_modeling/get_wkt2.sh"
PINNED = "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c"
TEXTS = {"train": b" = A = \n \n the <unk> cat\n", "valid": "été <unk> <unk>\n".encode(), "test": b"no\n"}


def archive(**more: bytes) -> bytes:
    """A zip with the three texts, and what else is given by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.mkdir("wikitext-2")
        for part, text in TEXTS.items():
            file.writestr(f"wikitext-2/wiki.{part}.tokens", text)
        for name, text in more.items():
            file.writestr(name, text)
    return content.getvalue()


GOOD = archive()
SUM = hashlib.sha256(GOOD).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers every path that is in `files`, and counts what it is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].strip("/")
        self.server.asked[name] += 1
        self.server.agents.add(self.headers["User-Agent"])
        content = self.server.files.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(*words: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | (env or {})
    command = ["bash", str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)


def texts_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "wikitext-2").iterdir())}


EXPECTED = {f"{part}.txt": text.replace(b"<unk>", b"[UNK]") for part, text in sorted(TEXTS.items())}


def refused(result: subprocess.CompletedProcess[str], exit_code: int, *told: str) -> bool:
    """Is it one line of the right kind that tells all this, and the exit code?"""
    code = {2: "USAGE", 3: "DATA", 5: "STORAGE"}[exit_code]
    assert result.returncode == exit_code, result
    (line,) = result.stderr.splitlines()
    return line.startswith(f"error[{code}] get_wkt2.sh: ") and all(text in line for text in told)


def test_the_three_texts_are_fetched_and_nothing_else_is_left(server, tmp_path):
    server.files["w.zip"] = GOOD
    folder = tmp_path / "a folder"
    result = get("--url", server.url("w.zip"), "--sha256", SUM, folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert texts_in(folder) == EXPECTED
    assert [path.name for path in folder.iterdir()] == ["wikitext-2"]
    assert all(agent.startswith("Mozilla/") for agent in server.agents)  # one mirror asks for a browser


def test_existing_files_are_not_fetched_again(server, tmp_path):
    server.files["w.zip"] = GOOD
    for _ in range(2):
        result = get(f"--url={server.url('w.zip')}", f"--sha256={SUM.upper()}", tmp_path)
        assert result.returncode == 0
    assert "already" in result.stdout
    assert server.asked == {"w.zip": 1}


def test_an_incomplete_folder_is_completed(server, tmp_path):
    server.files["w.zip"] = GOOD
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2/valid.txt").write_text("half")
    assert get("--url", server.url("w.zip"), "--sha256", SUM, tmp_path).returncode == 0
    assert texts_in(tmp_path) == EXPECTED


def test_sources_are_tried_in_order_until_one_has_the_right_archive(server, tmp_path):
    server.files |= {
        "page": b"<html>sorry</html>",
        "cut": GOOD[:-30],
        "other": archive(more=b"1"),
        "good": GOOD,
    }
    names = ("gone", "page", "cut", "other", "good", "never")
    words = [word for name in names for word in ("--url", server.url(name))]
    result = get(*words, "--sha256", SUM, tmp_path)
    assert result.returncode == 0
    assert texts_in(tmp_path) == EXPECTED
    assert list(server.asked) == list(names[:-1])


def test_the_environment_names_a_source(server, tmp_path):
    server.files["w.zip"] = GOOD
    environment = {"WIKITEXT2_URL": server.url("w.zip")}
    assert get("--sha256", SUM, tmp_path, env=environment).returncode == 0
    assert texts_in(tmp_path) == EXPECTED


def test_if_all_sources_fail_each_is_named_and_nothing_is_left(server, tmp_path):
    server.files["cut"] = GOOD[: len(GOOD) // 2]
    secret = server.url("cut?token=s3cret").replace("//", "//me:pass@")
    result = get("--url", server.url("gone"), "--url", secret, tmp_path)
    assert refused(
        result, 3, f"{server.url('gone')}: ", "404", f"{server.url('cut')}: not a complete zip", "--zip"
    )
    assert "s3cret" not in result.stderr + result.stdout and "pass" not in result.stderr + result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_is_an_error(tmp_path):
    assert refused(get("--url", "http://127.0.0.1:9/w.zip", tmp_path), 3, "127.0.0.1")


def test_another_archive_is_refused_with_both_sums(tmp_path):
    (tmp_path / "w.zip").write_bytes(GOOD)
    assert refused(get("--zip", tmp_path / "w.zip", tmp_path / "data"), 3, SUM, PINNED)
    assert not (tmp_path / "data/wikitext-2").exists()


def test_a_local_archive(tmp_path):
    (tmp_path / "w.zip").write_bytes(GOOD)
    assert get("--zip", tmp_path / "w.zip", "--sha256", "none", tmp_path / "data").returncode == 0
    assert texts_in(tmp_path / "data") == EXPECTED
    assert (tmp_path / "w.zip").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (archive(**{"../escaped.txt": b"!"}), "'../escaped.txt'"),
        (archive(**{"/escaped.txt": b"!"}), "'/escaped.txt'"),
        (
            archive(**{"wikitext-2/wiki.tost.tokens": b"twice"}).replace(b"wiki.tost", b"wiki.test"),
            "2 members 'wikitext-2/wiki.test.tokens'",
        ),
        (GOOD.replace(b"wiki.test", b"wiki.tost"), "0 members 'wikitext-2/wiki.test.tokens'"),
        (GOOD.replace(b"\x03\x04", b"\x03\x05", 2), "cannot be read"),
        (b"", "not a complete zip"),
    ],
)
def test_an_archive_with_wrong_content_is_refused(content, told, tmp_path):
    (tmp_path / "w.zip").write_bytes(content)
    data = tmp_path / "a/b/c"
    assert refused(get("--zip", tmp_path / "w.zip", "--sha256", "none", data), 3, told)
    assert sorted(tmp_path.rglob("*.txt")) == []


def test_a_text_that_unpacks_to_far_too_much(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for part in TEXTS:
            file.writestr(f"wikitext-2/wiki.{part}.tokens", bytes((50 << 20) + 1 if part == "train" else 1))
    assert refused(get("--zip", tmp_path / "w.zip", "--sha256", "none", tmp_path), 3, "too large")


def test_a_download_that_is_far_too_large(server, tmp_path):
    server.files["w.zip"] = bytes(21 << 20)
    assert refused(get("--url", server.url("w.zip"), tmp_path), 3, "more than 20480 KiB")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "no folder"),
        (["a", "b"], "two folders"),
        (["--uri", "x", "a"], "--uri"),
        (["a", "--url"], "--url without a value"),
        (["--sha256", "abc", "a"], "found abc"),
    ],
)
def test_an_invalid_command_line_is_refused(words, told, tmp_path):
    assert refused(get(*words), 2, told)


def test_a_missing_zip_is_an_error(tmp_path):
    assert refused(get("--zip", tmp_path / "no.zip", tmp_path), 3, "no.zip", "no such file")


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    assert refused(get(tmp_path / "file"), 5, f"{tmp_path}/file/wikitext-2: cannot be written to")


def test_a_full_disk(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for part in TEXTS:
            file.writestr(f"wikitext-2/wiki.{part}.tokens", b"a" * 100_000)
    command = f"ulimit -f 64; bash '{SCRIPT}' --zip '{tmp_path}/w.zip' --sha256 none '{tmp_path}'"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert refused(result, 5, "file too large", "free some space")
    assert not (tmp_path / "wikitext-2").exists()


def only(folder: Path, *programs: str) -> dict[str, str]:
    """An environment in which just these programs can be found."""
    folder.mkdir()
    for program in (*programs, "bash", "cat", "sed", "head", "mkdir", "mktemp", "rm", "rmdir", "mv"):
        # The python3 on the PATH may be a script that needs other programs to find the real one.
        found = sys.executable if program == "python3" else shutil.which(program)
        (folder / program).symlink_to(found or pytest.skip(f"{program} is not here"))
    return {"PATH": str(folder)}


def test_wget_will_do_and_unzip_is_not_needed(server, tmp_path):
    server.files["w.zip"] = GOOD
    words = ("--url", server.url("gone"), "--url", server.url("w.zip"), "--sha256", SUM, tmp_path)
    assert get(*words, env=only(tmp_path / "bin", "python3", "wget")).returncode == 0
    assert texts_in(tmp_path) == EXPECTED


def test_programs_that_are_missing(tmp_path):
    assert refused(get(tmp_path, env=only(tmp_path / "a", "curl")), 2, "python3")
    assert refused(get(tmp_path, env=only(tmp_path / "b", "python3")), 2, "neither curl nor wget")


def test_help_names_every_option():
    result = get("--help")
    assert result.returncode == 0
    assert all(word in result.stdout for word in ("--url", "--zip", "--sha256", "WIKITEXT2_URL"))
