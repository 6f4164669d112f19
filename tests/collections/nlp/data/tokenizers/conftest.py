"""Tokenizers small enough to work out their ids by hand, and trained ones."""

from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2

from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer, SentencePieceTokenizer, load_tokenizer
from nemo.collections.nlp.data.tokenizers.vocabulary import draw_lines, learn_sentencepiece, learn_wordpiece

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "The quick brown fox, 1 000 000 times: it's 00 or 000!",
    "Příliš žluťoučký kůň; Việt Nam, nhiều tiếng địa phương khác nhau.",
    "Prˇi´lisˇ Vie\u0323\u0302t nhie\u0302\u0300u ﬁnal ½ Ａｂｃ １２３ … “quoted”",
    "L'été dernier, l'œuvre naïve de Zoë à la Größe Straße",
    "他在北京大学学习中文，已经三年了。价格：１００元！",
    "  spaces   at both ends  ",
    "",
    "no\x1cbreak, tab\tand\u00a0hard space",
    "a [UNK] in the [UNK]s of a corpus, and one at the end [UNK]",
]


def write_model(path: Path, pieces: list[tuple[str, float]], own_specials: bool) -> Path:
    """A SentencePiece model of these pieces, with BERT's special tokens or with SentencePiece's own."""
    model = sentencepiece_model_pb2.ModelProto()
    kind = sentencepiece_model_pb2.ModelProto.SentencePiece
    for token in SPECIALS if own_specials else ["<unk>", "<s>", "</s>"]:
        model.pieces.add(
            piece=token, type=kind.UNKNOWN if token.lower().strip("[<>]") == "unk" else kind.CONTROL
        )
    for piece, score in pieces:
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.unk_id = 1 if own_specials else 0
    model.normalizer_spec.add_dummy_prefix = True
    path.write_bytes(model.SerializeToString())
    return path


def write_vocabulary(path: Path, tokens: list[str]) -> Path:
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return path


@pytest.fixture
def pieces(tmp_path) -> SentencePieceTokenizer:
    """Ids 5 to 11: ▁the ▁cat s ▁ c a t."""
    of_text = [
        ("▁the", -1.0),
        ("▁cat", -1.0),
        ("s", -2.0),
        ("▁", -3.0),
        ("c", -3.0),
        ("a", -3.0),
        ("t", -3.0),
    ]
    return SentencePieceTokenizer(write_model(tmp_path / "m.model", of_text, own_specials=True))


@pytest.fixture
def without_specials(tmp_path) -> SentencePieceTokenizer:
    """A model that knows none of BERT's special tokens: <unk> <s> </s> ▁a b."""
    return SentencePieceTokenizer(
        write_model(tmp_path / "f.model", [("▁a", -1.0), ("b", -1.0)], own_specials=False)
    )


@pytest.fixture
def words(tmp_path) -> NemoBertTokenizer:
    """Ids 5 to 11: the cat ##s Cat [ ] ##."""
    tokens = [*SPECIALS, "the", "cat", "##s", "Cat", "[", "]", "."]
    return NemoBertTokenizer(vocab_file=write_vocabulary(tmp_path / "vocab.txt", tokens))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Folders with tokenizers that were trained on TEXTS."""
    folder = tmp_path_factory.mktemp("trained")
    text = folder / "text.txt"
    text.write_text("\n".join(TEXTS * 3), encoding="utf-8")
    lines = draw_lines([text], 1000, 10**6, SPECIALS)
    for kind in ("pieces", "words"):
        (folder / kind).mkdir()
    (folder / "pieces/tokenizer.model").write_bytes(learn_sentencepiece(lines, SPECIALS, 150))
    write_vocabulary(folder / "words/vocab.txt", learn_wordpiece(lines, SPECIALS, 300))
    return {kind: folder / kind for kind in ("pieces", "words")}


@pytest.fixture(params=["pieces", "words"])
def tokenizer(request, trained):
    return load_tokenizer(trained[request.param])
