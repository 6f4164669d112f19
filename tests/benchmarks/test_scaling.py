"""Processes side by side from the command line; the model of many GPUs against numbers worked out by hand."""

import json
from dataclasses import replace

import pytest
import scaling
from scaling import Network, Step
from ways import synthetic_batches

from nemo.collections.nlp.nm.pretraining_model import with_heads
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT

SLOW = Network(inside=100, between=10, inside_hop=1, between_hop=2, call=0.5, count_hop=0.1, gpus_of_node=2)


@pytest.mark.slow
def test_a_first_look(tmp_path, capsys):
    path = tmp_path / "scaling.json"
    assert scaling.main(["--quick", "--json", str(path)]) in (0, 1)  # 1: the machine was not steady
    measured = json.loads(path.read_text(encoding="utf-8"))["measured"]
    one, joined, several = measured["ways"]
    assert [way["way"] for way in (one, joined, several)] == ["one", "joined", "several"]
    global_batch = 4 * 16
    for window in (*one["windows"], *joined["windows"], *several["windows"]):
        assert window["tokens"] == global_batch * window["steps"]
    assert measured["several_of_one"] == several["tokens_per_s"] / one["tokens_per_s"]
    weights = with_heads(BERT(**scaling.SHAPES["tiny"].model)).num_weights
    assert measured["bytes_per_step"] == 4 * weights and measured["messages_per_step"] == 1
    assert measured["all_reduce_s"] > 0 and measured["small_sum_s"] > 0
    told = capsys.readouterr().out
    assert "several / one:" in told and "| large | bf16 | hierarchical | yes |" in told


def test_processes_share_out_a_batch():
    (whole,) = synthetic_batches(replace(scaling.SHAPES["tiny"], padding=0.0), 1)
    parts = scaling._shared_out([whole], 2)
    assert [part.tokens for part in parts] == [whole.tokens // 2] * 2
    assert (parts[1].input_ids == whole.input_ids[1::2]).all()


def test_a_ring_around_two_nodes_of_two():
    # 6 hops, 2 of them between nodes; 3/2 of 60 bytes at the 20 bytes/s of two cards.
    assert SLOW.ring(60, 4) == pytest.approx(0.5 + 4.5 + 4 * 1 + 2 * 2)
    assert SLOW.ring(60, 2) == pytest.approx(0.5 + 0.6 + 2 * 1)
    assert SLOW.counting(4) == pytest.approx(0.6)


def test_three_steps_in_two_nodes_of_two():
    # Twice half of 60 bytes within a node; between, a half up and down by one card.
    assert SLOW.hierarchical(60, 4) == pytest.approx(0.5 + 2 * (0.3 + 1) + 2 * 3 + 2 * 2)
    assert SLOW.hierarchical(60, 2) == pytest.approx(SLOW.ring(60, 2))


def test_the_backward_pass_hides_all_but_the_word_embeddings():
    step = Step(seconds=12, weights=30, last=15)  # 60 bytes each: 13 s each around the ring
    assert step.efficiency(SLOW, 4, "ring", overlap=False) == pytest.approx(12 / (12 + 13 + 13 + 0.6))
    assert step.efficiency(SLOW, 4, "ring") == pytest.approx(12 / (12 + (13 - 8) + 13 + 0.6))
    halved = step.efficiency(SLOW, 4, "ring", bytes_each=2)
    assert halved == pytest.approx(12 / (12 + (10.75 - 8) + 10.75 + 0.6))
    assert step.efficiency(SLOW, 1, "ring") == 1


def test_real_sizes_are_predicted_without_measuring(capsys):
    assert scaling.main(["--model_only", "--gpus", "8", "--tokens_per_s", "32768", "16384"]) == 0
    told = capsys.readouterr().out
    assert "base: 110,106,428 weights, 1000 ms of computing" in told
    assert "large: 336,226,108 weights, 2000 ms of computing" in told
    assert "several / one" not in told and told.count("| base |") == 8
