"""Paragraphs to sentences."""

import os
import subprocess
import sys

import pytest

from nemo.collections.nlp.data.inputs import read_documents
from nemo.collections.nlp.data.text.sentences import make_splitter, split_cjk, split_lines

PROSE = [
    "The ship left at noon. The crew was tired. Nobody spoke.",
    "In the evening ca. forty people came. They were late. It had rained, ca. two hours long.",
    "We saw ca. ten birds. They flew away. Then it was quiet, for ca. an hour.",
] * 10


def test_chinese_sentences_end_with_their_closing_quotes():
    text = "“你好！”他说。真的吗？！是的……（对。）最后"
    assert split_cjk(text) == ["“你好！”", "他说。", "真的吗？！", "是的……", "（对。）", "最后"]


def test_chinese_final_marks_without_a_sentence_lose_nothing():
    assert split_cjk("。。好。") == ["。。", "好。"]


def test_a_semicolon_ends_no_sentence_and_every_bracket_may_close_one():
    assert split_cjk("一；二。」三！〕四？］五") == ["一；二。」", "三！〕", "四？］", "五"]


def test_ascii_marks_end_a_sentence_but_not_inside_an_address():
    assert split_cjk("看http://a.cn/?q=1吧!真的?!OK") == ["看http://a.cn/?q=1吧!", "真的?!", "OK"]


def test_paragraphs_of_each_script_are_split_its_own_way():
    split = make_splitter([*PROSE, "今天天气很好。我们去公园。"])
    assert split("明天呢？也好。") == ["明天呢？", "也好。"]
    assert split("We met ca. twenty men. They sang.") == ["We met ca. twenty men.", "They sang."]


def test_chinese_and_japanese_are_recognized_by_their_script():
    assert make_splitter(["今天天气很好。我们去公园。"]) is split_cjk
    assert make_splitter(["これはペンです。あれは本です。"]) is split_cjk


def test_punkt_learns_the_abbreviations_of_the_corpus():
    split = make_splitter(PROSE, "punkt")
    assert split("We met ca. twenty men. They sang.") == ["We met ca. twenty men.", "They sang."]


def test_prose_is_split_by_punkt():
    assert make_splitter(PROSE)("It rained. We stayed.") == ["It rained.", "We stayed."]


def test_lines_that_are_sentences_are_not_split():
    assert make_splitter([f"Line {i} is one sentence." for i in range(50)]) is split_lines


def test_a_splitter_can_be_named():
    assert make_splitter(PROSE, "line")("One. Two.") == ["One. Two."]
    assert make_splitter(PROSE, "cjk") is split_cjk


@pytest.mark.slow
def test_the_same_excerpt_gives_the_same_sentences_in_every_process():
    program = (
        "from nemo.collections.nlp.data.text.sentences import make_splitter; import sys;"
        "lines = sys.stdin.read().split('\\n'); split = make_splitter(lines, 'punkt');"
        "print([split(line) for line in lines])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(PROSE),
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("name", ["punkt", "cjk", "line"])
def test_no_character_is_lost(shared_data, name):
    documents = list(read_documents(shared_data / "wikitext-2" / "valid.txt"))[:10]
    paragraphs = [paragraph for document in documents for paragraph in document]
    split = make_splitter(paragraphs, name)
    for paragraph in paragraphs:
        assert "".join("".join(split(paragraph)).split()) == "".join(paragraph.split())


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("本研究では手法を提案した．結果は良好であった．精度は２．０倍である．", 3),
        ("他买了两个. 价格是3.5元. 然后他走了.", 3),
        ("价格是3.5元，版本是2．0和２．０。", 1),
        ("他说“很好.” 然后走了.", 2),
        ("我们用了 Python. 他们用了 Java. 都很好.", 3),
        ("由 Mr. Wang 主持，Dr. Li 参加. 会后 J. K. 罗琳到场.", 2),
        ("１．はじめに述べる．次に示す．", 2),
        ("1. 概要是这样的. 然后结束.", 2),
        ("请看www.a.com/b.html的网页.", 1),
        ("等等... 然后呢. 完了.", 3),
    ],
)
def test_full_stops_end_chinese_and_japanese_sentences_but_not_numbers(text, sentences):
    found = split_cjk(text)
    assert len(found) == sentences
    assert "".join("".join(found).split()) == "".join(text.split())


def test_a_million_dots_are_split_in_no_time():
    assert len(split_cjk("." * 10**6 + "中. " * 10**5)) == 10**5
