"""What is decided for which text, machine and time."""

import dataclasses

import pytest

from nemo.backends.pytorch.machine import Machine
from nemo.collections.nlp.options.recipe_options import CHOSEN, defaults_with_text
from nemo.collections.nlp.recipe.cost import flops_per_token, tokens_in
from nemo.collections.nlp.recipe.decisions import decide, held_out_share
from nemo.collections.nlp.recipe.situation import Situation
from nemo.collections.nlp.recipe.text_facts import TextFacts

LAPTOP = Machine("cpu", "4 CPU cores", has_bf16=False, matmul_rate=1e11, memory=8 << 30)
GPU = Machine("cuda", "a GPU", has_bf16=True, matmul_rate=5e14, memory=80 << 30)
ENGLISH = TextFacts(
    ("news.txt",),
    ("news.txt",),
    num_bytes=10_000_000,
    documents=8000,
    characters=10_000_000,
    layouts=("blank",),
    scripts=(("Latin", 1.0),),
    languages=(("en", 1.0),),
    alphabet=80,
)
CHINESE = dataclasses.replace(ENGLISH, scripts=(("Han", 0.97),), languages=(("zh", 1.0),), alphabet=4000)


def chosen(text=ENGLISH, machine=LAPTOP, size=None, **typed):
    made = decide(Situation(text, machine, typed, size))
    return {name: value for decision in made for name, value in decision.options.items()}


def test_every_decision_has_a_reason():
    for text in (ENGLISH, CHINESE, dataclasses.replace(ENGLISH, kind="shards")):
        assert all(d.about and d.value and d.reason for d in decide(Situation(text, LAPTOP, {})))


@pytest.mark.parametrize(
    ("typed", "about", "value", "reason"),
    [
        ({"lr": 0.1}, "optimizer", "AdamW; the rate warms up to 0.1, then falls to 0", "--lr 0.1 given"),
        (
            {"beta2": 0.9},
            "optimizer",
            "AdamW; the rate warms up to 0.002, then falls to 0",
            "--beta2 0.9 given; the best rate measured for micro",
        ),
        (
            {"masking": "token"},
            "sequences",
            "128 tokens; tokens masked, 30% of the tokens falling to 15%",
            "--masking token given; short sequences take less time; many masks teach more at first",
        ),
        (
            {"mask_probability": "0.2", "max_seq_length": 64},
            "sequences",
            "64 tokens; whole words masked, 20%",
            "--max_seq_length 64, --mask_probability 0.2 given",
        ),
        (
            {"hidden_size": 512},
            "model",
            "2 layers x 512",
            "--hidden_size 512 given; the other sizes are those of micro",
        ),
        (
            {"do_lower_case": False},
            "tokenizer",
            "word-piece",
            "--do_lower_case False given; English, with spaces between words",
        ),
        (
            {"text_layout": "lines"},
            "data",
            "news.txt: 10.0 MB, about 8,000 documents",
            "--text_layout lines given",
        ),
        (
            {"save_step_freq": 7},
            "evaluation",
            "about 7 evaluations; the best is kept",
            "--save_step_freq 7 given; evaluations take up to 5% of the time",
        ),
    ],
)
def test_the_table_describes_given_options_as_they_are(typed, about, value, reason):
    made = {decision.about: decision for decision in decide(Situation(ENGLISH, LAPTOP, typed))}
    assert (made[about].value, made[about].reason) == (value, reason)


def test_larger_steps_are_evaluated_and_saved_more_often():
    once, twice = (chosen(num_epochs=6, batches_per_step=batches) for batches in (1, 8))
    for name in ("eval_step_freq", "save_step_freq"):
        assert once[name] == pytest.approx(8 * twice[name], rel=0.1)


def test_help_knows_which_options_are_chosen():
    tiny = dataclasses.replace(ENGLISH, characters=20_000, one_sentence_share=1.0, held_out="valid.txt")
    about_data = {"mode", "text_format", "text_layout"}
    assert chosen().keys() | chosen(tiny).keys() | {"batch_size", "work_dir"} == (
        {*CHOSEN, *defaults_with_text()} | about_data
    )


@pytest.mark.parametrize(
    ("facts", "tokenizer", "lower"),
    [
        ({}, "word-piece", True),
        ({"lost_marks": 0.03}, "word-piece", False),
        ({"is_unnamed": True}, "word-piece", False),
        ({"scripts": (("Han", 0.97),)}, "word-piece", False),
        ({"scripts": (("Han", 0.5), ("Hiragana", 0.4))}, "sentence-piece", False),
        ({"scripts": (("Thai", 0.9),)}, "sentence-piece", False),
    ],
    ids=["English", "accents", "programs", "Chinese", "Japanese", "Thai"],
)
def test_the_tokenizer_suits_the_script(facts, tokenizer, lower):
    options = chosen(dataclasses.replace(ENGLISH, **facts))
    assert (options["tokenizer"], options["do_lower_case"]) == (tokenizer, lower)


def test_the_case_of_an_existing_tokenizer_is_its_own():
    assert "do_lower_case" not in chosen(tokenizer="some/folder")
    assert chosen(tokenizer="word-piece")["do_lower_case"]


def test_a_vocabulary_grows_with_the_text_and_holds_its_characters():
    small = chosen(dataclasses.replace(ENGLISH, characters=200_000))["vocab_size"]
    large = chosen(dataclasses.replace(ENGLISH, characters=10**10))["vocab_size"]
    assert small < chosen()["vocab_size"] < large == 30_000
    assert chosen(dataclasses.replace(CHINESE, characters=300_000))["vocab_size"] > CHINESE.alphabet


def test_the_model_grows_with_the_time_and_is_held_back_by_a_small_text():
    much = dataclasses.replace(ENGLISH, characters=10**9)
    widths = [chosen(much, GPU, minutes=minutes)["hidden_size"] for minutes in (0.001, 1, 30, 3000)]
    assert widths == sorted(widths) and len(set(widths)) > 2
    assert chosen(dataclasses.replace(ENGLISH, characters=50_000), GPU, minutes=600)["hidden_size"] == 128
    assert chosen(size="base", minutes=1)["num_hidden_layers"] == 12


@pytest.mark.parametrize("steps", [20, 500, 5000])
def test_a_run_of_given_steps_has_the_same_model_on_any_machine(steps):
    slow, fast = (dataclasses.replace(LAPTOP, matmul_rate=rate) for rate in (1e8, 1e13))
    ways = [{}, {"tokens_per_batch": 2048}, {"batch_size": 16, "batches_per_step": 2}]
    for given in ways:
        models = [chosen(machine=machine, num_iters=steps, **given) for machine in (slow, fast)]
        assert models[0]["hidden_size"] == models[1]["hidden_size"]
    assert chosen(machine=slow, num_epochs=3)["hidden_size"] == chosen(num_epochs=3)["hidden_size"]
    assert chosen(num_iters=20)["hidden_size"] < chosen(num_iters=500)["hidden_size"]


def test_other_shapes_use_the_rate_of_the_nearest_size():
    def rate(layers, width):
        return chosen(num_hidden_layers=layers, hidden_size=width, num_attention_heads=4)["lr"]

    assert rate(2, 250) == chosen(size="micro")["lr"]
    assert rate(6, 256) == rate(12, 300) == chosen(size="mini")["lr"]
    assert rate(12, 700) == chosen(size="base")["lr"]


def test_given_options_win_and_the_others_follow_from_them():
    options = chosen(lr=0.5, hidden_size=96, vocab_size=123, tokenizer="some/folder")
    assert (options["lr"], options["hidden_size"], options["tokenizer"]) == (0.5, 96, "some/folder")
    assert "vocab_size" not in options or options["vocab_size"] == 123
    assert "tokens_per_batch" not in chosen(batch_size=8)
    assert "minutes" not in chosen(num_iters=100)
    longer = chosen(minutes=1000)["tokens_per_batch"]
    assert longer > chosen(minutes=1)["tokens_per_batch"]


def test_precision_follows_the_units():
    assert chosen()["amp_opt_level"] == "O0"
    assert chosen(machine=GPU)["amp_opt_level"] == "O2"


def test_dropout_is_for_texts_that_are_seen_again():
    assert chosen(minutes=1)["hidden_dropout_prob"] == 0
    again = dataclasses.replace(ENGLISH, characters=200_000)
    assert chosen(again, minutes=30)["hidden_dropout_prob"] == 0.1


def test_a_text_is_not_passed_over_more_often_than_is_of_use():
    small = dataclasses.replace(ENGLISH, characters=200_000)
    assert chosen(small, minutes=30)["num_epochs"] == 20 and chosen(small)["minutes"] == 10
    assert chosen(small, minutes=30)["tokens_per_batch"] == chosen(small, minutes=300)["tokens_per_batch"]
    assert "num_epochs" not in chosen(minutes=1)
    assert "num_epochs" not in chosen(small, num_iters=10**6)
    assert chosen(small, minutes=30, num_epochs=99)["num_epochs"] == 99


def test_a_run_on_a_small_text_is_evaluated_often_enough():
    tiny = dataclasses.replace(ENGLISH, characters=20_000)
    steps = 20 * 20_000 / 4 / chosen(tiny)["tokens_per_batch"]
    assert chosen(tiny)["eval_step_freq"] <= steps / 5


def test_documents_without_a_second_sentence_make_no_pairs():
    assert "only_mlm_loss" not in chosen() and chosen()["nsp_weight"] == 0.1
    alone = dataclasses.replace(ENGLISH, one_sentence_share=0.9)
    assert chosen(alone)["only_mlm_loss"] and "nsp_weight" not in chosen(alone)
    assert chosen(alone, nsp_weight=0.5)["nsp_weight"] == 0.5 and "only_mlm_loss" not in chosen(
        alone, nsp_weight=0.5
    )
    assert chosen(alone, only_mlm_loss=False)["nsp_weight"] == 0.1
    assert "nsp_weight" not in chosen(only_mlm_loss=True)


def test_a_trained_model_keeps_its_sizes_and_tokenizer_and_learns_slowly():
    made = decide(Situation(ENGLISH, LAPTOP, {"bert_checkpoint": "a"}, None, (12, 768, 30522)))
    options = {name: value for decision in made for name, value in decision.options.items()}
    assert not {"hidden_size", "vocab_size", "tokenizer", "initialization"} & options.keys()
    assert options["lr"] == 1e-4


def test_a_kind_of_tokenizer_does_not_replace_that_of_a_trained_model():
    for asked in ("word-piece", "sentence-piece", "folder"):
        typed = {"bert_checkpoint": "a", "tokenizer": asked}
        made = decide(Situation(ENGLISH, LAPTOP, typed, None, (12, 768, 30522)))
        options = {name: value for decision in made for name, value in decision.options.items()}
        assert options.get("tokenizer") == (asked if asked == "folder" else None)


def test_a_tenth_is_held_out_but_no_more_than_tells_losses_apart():
    assert held_out_share(dataclasses.replace(ENGLISH, characters=500_000), {}) == 0.1
    assert held_out_share(ENGLISH, {}) == pytest.approx(0.02)
    assert held_out_share(dataclasses.replace(ENGLISH, held_out="news"), {}) == 0
    assert held_out_share(ENGLISH, {"eval_data": "valid.txt"}) == 0


def test_a_step_costs_six_operations_for_each_weight_and_token():
    # BERT-base: 85 million weights in the encoder, 23.4 million in the head, which 30% to 15% of tokens need
    encoder = 12 * (12 * 768**2 + 2 * 128 * 768)
    assert flops_per_token(12, 768, 30522) == pytest.approx(6 * (encoder + 0.225 * 768 * (768 + 30522)))
    assert tokens_in(2, LAPTOP, 4, 256, 8000) == pytest.approx(2 * tokens_in(1, LAPTOP, 4, 256, 8000))
