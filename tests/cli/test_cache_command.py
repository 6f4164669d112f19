"""`nemo-bert cache`: what runs share is listed, and can be deleted."""

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.store.token_store import open_or_build
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.cli.outcome import error_of
from tests.conftest import write_english


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nemo-bert"


def test_a_text_in_the_cache_is_named_and_deleted(cache, tmp_path, capsys):
    text = write_english(tmp_path / "english") / "valid.txt"
    (tmp_path / "mine").mkdir()
    text = text.rename(tmp_path / "mine" / "letters.txt")
    tokenizer = train_tokenizer("word-piece", [text], tmp_path / "tokenizer", 100)
    open_or_build(text, tokenizer)
    assert [path.name for path in text.parent.iterdir()] == ["letters.txt"]  # nothing beside it
    (cache / "kernels-0.so").write_bytes(bytes(3_000_000))
    capsys.readouterr()
    assert main(["cache"]) == 0
    kernels, tokens, total = capsys.readouterr().out.splitlines()
    assert kernels.startswith("   3.0 MB") and "kernels for this CPU" in kernels
    assert "tokens of letters.txt" in tokens
    assert str(cache) in total
    assert main(["cache", "--clear"]) == 0
    assert "3.0 MB deleted" in capsys.readouterr().out
    assert list(cache.iterdir()) == []


def test_an_empty_cache_is_empty(cache, capsys):
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("   0.0 MB  in ")
    assert not cache.exists()


def test_without_a_home_folder_there_is_no_cache(monkeypatch, capsys):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError))
    assert main(["cache"]) == 5
    assert "set HOME or XDG_CACHE_HOME" in error_of(capsys)
