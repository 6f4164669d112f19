"""`nemo-bert show-batch`: samples as a model gets them, for a person to read."""

import itertools
import json
import re
from pathlib import Path

import pytest

from nemo.cli.main import main
from nemo.collections.nlp.data.tokenizers import load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.cli.outcome import error_of
from tests.conftest import write_english
from tests.shards import make_rows, write_shard

CHINESE = (
    "长江是中国第一大河，发源于青藏高原。它流经许多省份，最后注入东海。\n沿岸有很多大城市，人口众多。\n\n"
)


def shown(capsys, *words) -> list[dict]:
    """The samples that --json prints."""
    capsys.readouterr()
    assert main(["show-batch", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)["samples"]


def told(capsys, *words) -> str:
    capsys.readouterr()
    assert main(["show-batch", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """English text in `text`, a tokenizer in `bert`, and shards of them in `shards`."""
    folder = tmp_path_factory.mktemp("made")
    text = write_english(folder / "text") / "train.txt"
    train_tokenizer("word-piece", [text], folder / "bert", 80)
    tokenizer = load_tokenizer(folder / "bert")
    sentences = [line for line in text.read_text().splitlines() if line]
    specials = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    ids = [encoded.tolist() for encoded in tokenizer.encode_batch(sentences)]
    rows = make_rows(40, 32, 4, tokenizer.vocab_size, sentences=ids, specials=specials)
    write_shard(folder / "shards" / "text_training_0.hdf5", rows, 32, 4)
    return folder


def tokens_of(sample: dict) -> list[dict]:
    return sample["a"] + sample["b"]


def words_of(side: list[dict]) -> list[str]:
    """The words of A or B."""
    words: list[str] = []
    for token in side:
        if token["starts_word"]:
            words.append("")
        words[-1] += token["text"]
    return words


def test_samples_are_pairs_of_the_text_with_masks(made, capsys):
    samples = shown(capsys, made / "text", "--tokenizer", made / "bert", "-n", "20", "--max_seq_length", "64")
    text = " ".join((made / "text" / "train.txt").read_text().replace(".", " .").split())
    text += " ".join((made / "text" / "valid.txt").read_text().replace(".", " .").split())
    assert len(samples) == 20
    for sample in samples:
        assert sample["num_tokens"] == len(tokens_of(sample)) + 3 <= sample["max_seq_length"] == 64
        assert " ".join(words_of(sample["a"])[1:-1]) in text
        assert " ".join(words_of(sample["b"])[1:-1]) in text
        for token in tokens_of(sample):
            assert token["is_target"] or token["text"] == token["shown"]
            assert token["is_masked"] == (token["shown"] == "[MASK]")
    targets = [token for sample in samples for token in tokens_of(sample) if token["is_target"]]
    masked = [token for token in targets if token["is_masked"]]
    assert len(targets) / sum(sample["num_tokens"] for sample in samples) == pytest.approx(0.15, abs=0.02)
    assert len(masked) / len(targets) == pytest.approx(0.8, abs=0.12)
    assert {sample["is_random"] for sample in samples} == {True, False}


def test_a_seed_gives_the_same_samples_and_another_gives_others(made, capsys):
    words = made / "text", "--tokenizer", made / "bert"
    assert shown(capsys, *words) == shown(capsys, *words)
    assert shown(capsys, *words) != shown(capsys, *words, "--seed", "1")


def test_the_printed_text_is_that_of_the_sample(made, capsys):
    words = made / "text", "--tokenizer", made / "bert", "-n", "1", "--max_seq_length", "32"
    (sample,) = shown(capsys, *words)
    printed = told(capsys, *words)
    a = "".join((" " if t["starts_word"] else "·") + t["text"] for t in sample["a"]).strip()
    a_masked = "".join((" " if t["starts_word"] else "·") + t["shown"] for t in sample["a"]).strip()
    lines = dict(re.findall(r"^(\S.{12}) (\S.*)$", " ".join(re.split(r"\n {14}", printed)), re.MULTILINE))
    lines = {label.strip(): text for label, text in lines.items()}
    assert lines["A"] == a
    assert lines["A masked"] == a_masked
    masked = [t["text"] for t in tokens_of(sample) if t["is_masked"]]
    assert all(token in lines["masked"] + lines.get("replaced", "") for token in masked)
    follows = "B is random" if sample["is_random"] else "B follows A"
    assert f"sample 1   {follows}, {sample['num_tokens']} of 32 tokens" in printed


def test_whole_words_are_masked_unless_tokens_are_requested(made, capsys):
    words = made / "text", "--tokenizer", made / "bert", "-n", "20"

    def has_split_words(masking: str) -> bool:
        split = False
        for sample in shown(capsys, *words, "--masking", masking):
            for side in (sample["a"], sample["b"]):
                for before, token in itertools.pairwise(side):
                    split |= not token["starts_word"] and before["is_target"] != token["is_target"]
        return split

    assert not has_split_words("whole_word")
    assert has_split_words("token")
    assert not has_split_words("span")


def test_chinese_words_are_marked(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(CHINESE * 30, encoding="utf-8")
    train_tokenizer("word-piece", [tmp_path / "text.txt"], tmp_path / "tokenizer", 80)
    words = tmp_path, "--tokenizer", tmp_path / "tokenizer", "--max_seq_length", "64"
    printed = told(capsys, *words)
    assert "中·国" in printed
    assert "大·城·市\n" in printed.replace(" ", "\n")
    for sample in shown(capsys, *words):
        assert {"青藏高原", "城市", "东海", "，"} & set(words_of(sample["a"]) + words_of(sample["b"]))


def test_shards_are_shown_with_their_stored_masks(made, capsys):
    words = made / "shards", "-n", "40"
    samples = shown(capsys, *words)
    assert len(samples) == 40
    assert {sample["max_seq_length"] for sample in samples} == {32}
    assert samples == shown(capsys, *words, "--masking", "stored")
    others = shown(capsys, *words, "--masking", "token")
    for sample, other in zip(samples, others, strict=True):
        assert [t["text"] for t in tokens_of(sample)] == [t["text"] for t in tokens_of(other)]
    assert samples != others


def test_nothing_is_written_beside_the_text(made, capsys):
    before = sorted(made.rglob("*"))
    told(capsys, made / "text", "--tokenizer", made / "bert")
    assert sorted(made.rglob("*")) == before


def test_control_characters_are_spelled_out(tmp_path, capsys):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n\x1b[31mcat\nsees\n.\n")
    (tmp_path / "text.txt").write_text("the cat sees . \nthe cat sees the cat .\n" * 20)
    printed = told(capsys, tmp_path / "text.txt", "--tokenizer", tmp_path / "vocab.txt", "-n", "20")
    assert "\x1b" not in printed
    assert "\\x1b[31mcat" in printed
    assert max(map(len, printed.splitlines())) <= 100


def test_mistakes_are_reported_in_one_line(made, tmp_path, capsys):
    (tmp_path / "tiny.txt").write_text("One.")
    (tmp_path / "empty.txt").write_text("")
    tokenizer = ["--tokenizer", str(made / "bert")]
    for words, exit_code, message in (
        ([], 2, "nothing to show"),
        ([str(made / "text")], 2, "no tokenizer"),
        ([str(made / "text"), *tokenizer, "--masking", "stored"], 2, "only shards have stored masks"),
        ([str(made / "text"), *tokenizer, "--masking", "words"], 2, "--masking: not one of the choices"),
        ([str(tmp_path / "nowhere.txt"), *tokenizer], 3, "no such file or folder"),
        ([str(tmp_path / "tiny.txt"), *tokenizer], 3, "too little text for a pair"),
        ([str(tmp_path / "empty.txt"), *tokenizer], 3, "no text"),
    ):
        assert main(["show-batch", *words]) == exit_code
        assert message in error_of(capsys)
