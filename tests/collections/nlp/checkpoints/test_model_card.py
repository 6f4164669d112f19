"""The card shows what is known, and its metadata are what the hub reads."""

import pytest
import yaml
from huggingface_hub import ModelCard

from nemo.collections.nlp.checkpoints.model_card import FIGURES, Facts, model_card


def table(card, title):
    """The rows of a section's table."""
    section = card.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]


def test_facts_stand_in_tables_in_their_order():
    card = model_card(Facts(data={"training text": "news.txt", "tokens": 12000, "seed": None}))
    assert table(card, "Training data") == ["| training text | news.txt |", "| tokens | 12,000 |"]


def test_figures_come_with_what_they_are():
    card = model_card(Facts(figures={"mlm_loss": 5.43219, "mlm_accuracy": 0.25}))
    assert table(card, "Figures")[0] == f"| mlm_loss | 5.432 | {FIGURES['mlm_loss']} |"
    assert "No text was held out" in model_card(Facts())


def test_command_is_a_block_of_code():
    assert "```\nnemo-bert pretrain --seed 1\n```" in model_card(Facts(command="nemo-bert pretrain --seed 1"))


def test_values_can_break_neither_the_table_nor_the_page():
    card = model_card(Facts(data={"training text": "a | b\nc<script>"}))
    assert "| training text | a \\| b c&lt;script> |" in card


def test_metadata_are_what_the_hub_reads():
    facts = Facts(
        figures={"mlm_accuracy": 0.25, "mlm_perplexity": 60.5},
        languages=("en", "de"),
        license="cc-by-4.0",
        base_model="google/bert",
    )
    data = ModelCard(model_card(facts, "My BERT")).data
    assert (data.language, data.license, data.base_model) == (["en", "de"], "cc-by-4.0", "google/bert")
    assert (data.library_name, data.pipeline_tag) == ("transformers", "fill-mask")
    (accuracy, perplexity) = data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", 0.25)
    assert (perplexity.metric_type, perplexity.metric_value) == ("perplexity", 60.5)
    assert data.model_name == "My BERT"


@pytest.mark.parametrize("facts", [Facts(), Facts(languages=("no",), license="no")])
def test_metadata_with_special_characters_are_valid_yaml(facts):
    header = yaml.safe_load(model_card(facts).split("---")[1])
    assert header["tags"] == ["bert", "nemo-bert"]
    assert header.get("language", ["no"]) == ["no"]  # no boolean


def test_a_missing_license_is_mentioned():
    assert "No license is granted" in model_card(Facts())
    assert "license:" not in model_card(Facts()).split("---")[1]
    assert "No license is granted" not in model_card(Facts(license="mit"))
