"""Shells complete commands, options and their values."""

import subprocess

import pytest

from nemo.cli.main import COMMANDS, main
from tests.cli.outcome import error_of


def completed(capsys, tmp_path, *words):
    """What bash offers for the last of `words`."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    (tmp_path / "text.txt").touch()
    script = """
        source completion.bash
        COMP_WORDS=("$@")
        COMP_CWORD=$(($# - 1))
        $(complete -p nemo-bert | sed 's/.*-F \\(\\S*\\).*/\\1/')
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    command = ["bash", "-c", script, "bash", "nemo-bert", *words]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], set(COMMANDS)),
        (["pre"], {"prepare", "pretrain"}),
        (["pretrain", "--init"], {"--initialization", "--initializer_range"}),
        (["pretrain", "--initialization", ""], {"normal", "counts"}),
        (["pretrain", "--train_data", "te"], {"text.txt"}),
        (["inspect", "te"], {"text.txt"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(capsys, tmp_path, words, offered):
    assert completed(capsys, tmp_path, *words) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_with_every_command_and_its_options(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert all(option in script for option in ("near_duplicates", "initialization", "test_fraction"))


def test_another_shell_is_refused(capsys):
    assert main(["completion"]) == 2
    assert "expected nemo-bert completion bash | zsh | fish" in error_of(capsys)
    assert main(["completion", "csh"]) == 2
    assert "expected bash, zsh, fish" in error_of(capsys)
