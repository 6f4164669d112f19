"""`nemo-bert tokenizer`: what it says of the vocabulary it learned."""

import pytest

from nemo.cli.main import main


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("= Title =\nthe cat sees the cat now", "the cat sees the cat now"),
        ("我爱北京，我爱。", "我 爱 北 京 ， 我 爱 。"),
    ],
)
def test_an_example_is_shown_in_any_script(line, tokens, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(f"{line}\n" * 50, encoding="utf-8")
    words = ["tokenizer", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--vocab_size", "100"]
    assert main(words) == 0
    assert f"for example: {tokens}\n" in capsys.readouterr().out
