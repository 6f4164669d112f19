"""Text in other encodings: which one is named as the one to convert from."""

import pytest

from nemo.collections.nlp.data.inputs.encodings import likely_encoding
from nemo.utils.errors import DataError

SIMPLIFIED = "他说，这是一个很好的问题，我们应该认真对待。中国的经济增长了百分之七。"
TRADITIONAL = "他說，這是一個很好的問題，我們應該認真對待。中國的經濟增長了百分之七。"
JAPANESE = "これは日本語の文章です。とても良い問題だと彼は言った。"
FRENCH = "L'élève a été très déçu à Noël, où ça coûte 5 €."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SIMPLIFIED, "gb18030"),
        (TRADITIONAL, "big5"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        ("이것은 한국어 문장입니다. 아주 좋은 질문이라고 그는 말했다. 내일 또 만납시다.", "euc_kr"),
        (FRENCH, "cp1252"),
        ("Er grüßte die Männer – »schön«, sagte er.", "cp1252"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_the_encoding_that_text_was_written_in_is_found(text, encoding, cut):
    data = text.encode(encoding)
    assert likely_encoding(data[: len(data) - cut]) == encoding


def test_no_encoding_is_named_if_none_is_certain():
    assert likely_encoding("文字文字".encode() + b"\xff") == ""  # UTF-8 but for one byte
    assert likely_encoding("café, déjeuner ".encode() + b"it\x92s") == ""
    assert likely_encoding("Он сказал, что это вопрос".encode("cp1251")) == ""
    assert likely_encoding(bytes(range(128, 256)) * 4) == ""


def test_the_error_names_the_likely_encoding(documents_of):
    with pytest.raises(DataError, match=r"text\.txt:3: .*offset 11 .*fix: .*iconv -f gb18030 -t utf-8"):
        documents_of(b"One.\n\nTwo. " + SIMPLIFIED.encode("gb18030") + b"\n")
    with pytest.raises(DataError, match=r"iconv -f cp1252 -t utf-8.*--invalid_bytes replace"):
        documents_of(FRENCH.encode("cp1252"))
