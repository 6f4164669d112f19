"""An export goes to the hub when it is asked to: here to a stand-in for it on this machine."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.collections.nlp.checkpoints.test_loading import write_run

TOKEN = "hf_stand_in"


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks when it makes a repository and uploads a folder in one commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.server
        hub.asked.append((self.path, self.headers.get("Authorization"), body))
        if hub.status != 200:
            return self.answer({"error": "no"}, hub.status)
        if self.path == "/api/repos/create":
            return self.answer({"url": f"{hub.address}/me/my-bert"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.answer({"files": [{"path": path, **regular} for path in paths]})
        assert "/commit/" in self.path, self.path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer({"commitUrl": f"{hub.address}/me/my-bert/commit/1", "commitOid": "1"})

    def answer(self, content, status=200):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.address = f"http://127.0.0.1:{server.server_port}"
        # It tries again after a while, which is not to be waited for.
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        server.asked, server.files, server.status = [], {}, 200
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server
        server.shutdown()


@pytest.fixture
def run(tmp_path):
    write_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_an_export_is_uploaded_whole_and_nothing_else(hub, run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(run), str(out)]) == 0
    (out / "diary.txt").write_text("mine")
    assert main(["export", str(run), str(out), "--force", "--push", "me/my-bert", "--license", "mit"]) == 0
    assert f"uploaded: {hub.address}/me/my-bert" in capsys.readouterr().out
    written = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "diary.txt"}
    assert hub.files == written
    assert "license: mit" in hub.files["README.md"].decode()
    assert {authorization for _, authorization, _ in hub.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.slow
def test_nothing_is_uploaded_without_the_option(hub, run, tmp_path):
    assert main(["export", str(run), str(tmp_path / "out")]) == 0
    assert hub.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "exit_code", "message"),
    [
        (401, 2, "the hub refuses the token"),
        (400, 2, "the hub refuses the upload"),
        (503, 5, "the hub returned a server error"),
    ],
)
def test_a_refusal_of_the_hub_is_one_line(hub, run, tmp_path, capsys, status, exit_code, message):
    hub.status = status
    assert main(["export", str(run), str(tmp_path / "out"), "--push", "me/my-bert"]) == exit_code
    assert message in error_of(capsys)


def test_without_a_token_nothing_is_exported(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert main(["export", str(run), str(tmp_path / "out"), "--push", "me/my-bert"]) == 2
    assert "no token for the hub" in error_of(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_without_a_network_the_export_is_kept_and_reported(hub, run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["export", str(run), str(tmp_path / "out"), "--push", "me/my-bert"]) == 5
    assert "the hub cannot be reached" in error_of(capsys)
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--push", "a/b/c"), "not the name of a repository"),
        (("--private",), "--private has no effect without --push"),
        (("--license", "Do what you like"), "not a license identifier"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, capsys, words, message):
    assert main(["export", str(run), str(tmp_path / "out"), *words]) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "out").exists()
