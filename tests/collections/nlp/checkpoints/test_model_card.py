"""The card tells what it was given."""

import yaml

from nemo.collections.nlp.checkpoints.model_card import model_card


def test_facts_stand_in_a_table_in_their_order():
    card = model_card({"data": "news.txt", "steps": 12000, "figures": {"mlm_loss": 5.43219}, "seed": None})
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert table[2:] == ["| data | news.txt |", "| steps | 12,000 |", "| mlm loss | 5.432 |"]


def test_command_is_a_block_of_code():
    card = model_card({"command": "nemo-bert pretrain --seed 1"})
    assert "```\nnemo-bert pretrain --seed 1\n```" in card
    assert "|" not in card


def test_values_cannot_break_the_table():
    assert "| data | a \\| b c |" in model_card({"data": "a | b\nc"})


def test_header_is_what_the_hub_reads():
    header = model_card({}).split("---")[1]
    assert yaml.safe_load(header)["pipeline_tag"] == "fill-mask"


def test_card_without_facts_has_no_table():
    assert "|" not in model_card({})
    assert "No licence is granted" in model_card({})
