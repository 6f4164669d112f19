"""What two processes send each other, and what comes of it where batches do not divide."""

import json

import pytest

from tests.distributed.launching import WORKER, by_hand

CASES = (
    "accumulation",
    "several_messages",
    "bf16_gradients",
    "level_o2",
    "two_objectives",
    "uneven_ends",
    "evaluation",
)
SAMPLES = range(1, 17)  # 8 make a step
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Case -> what both processes have of it."""
    folder = tmp_path_factory.mktemp("updates")
    with by_hand(folder, [[WORKER, folder, *CASES]] * 2) as jobs:
        for job in jobs:
            job.succeed()
    return lambda case: [json.loads((folder / f"{case}.{rank}.json").read_text()) for rank in (0, 1)]


def near(values, tolerance=1e-5):
    return pytest.approx(values, abs=tolerance, rel=0)


def flat(losses):
    return [loss for of_update in losses for loss in of_update]


def test_nothing_is_sent_before_the_last_of_the_accumulated_batches(results):
    for result in results("accumulation"):
        assert [kind for kind, _ in result["events"]] == ["forward"] * 3 + ["sum", "sum"]


def test_a_step_sends_every_gradient_once_and_a_tied_one_as_one(results):
    for case in ("accumulation", "several_messages"):
        for result in results(case):
            *gradients, losses = [shapes for kind, shapes in result["events"] if kind == "sum"]
            assert losses == [[2]]  # the two losses of all processes, for the log
            assert sum(numbers for ((numbers,),) in gradients) == result["num_weights"]
            assert result["bytes"] == 4 * result["num_weights"]
            assert result["messages"] == len(gradients)


def test_gradients_sent_in_several_messages_give_the_same_weights(results):
    first, second = results("several_messages")
    assert first["messages"] == 3
    assert first["weights"] == second["weights"] == near(first["alone"])


def test_bf16_gradients_take_half_the_bytes_and_the_result_stays_near(results):
    first, second = results("bf16_gradients")
    assert first["bytes"] == 2 * first["num_weights"]
    assert first["weights"] == second["weights"] == near(first["alone"], 0.01)
    assert first["weights"] != near(first["alone"], 1e-6)


def test_bf16_weights_learn_what_one_process_learns(results):
    first, second = results("level_o2")
    assert first["weights"] == second["weights"] == near(first["alone"], 0.01)
    assert flat(first["losses"]) == near(flat(first["losses_alone"]), 0.01)


def test_two_objectives_take_turns_as_in_one_process(results):
    first, second = results("two_objectives")
    assert first["weights"] == second["weights"] == near(first["alone"])


def test_every_sample_is_trained_on_once_per_epoch(results):
    first, second = results("uneven_ends")
    for samples in map(str, SAMPLES):
        for epoch in ("0", "1"):
            seen = [i for r in (first, second) for i in r[samples]["seen"].get(epoch, [])]
            assert sorted(seen) == list(range(int(samples)))
        assert first[samples]["items"] == [2 * int(samples)] * 2


def test_a_short_last_step_equals_that_of_one_process(results):
    first, second = results("uneven_ends")
    for samples in map(str, SAMPLES):
        ours = first[samples]
        assert ours["steps"][0] == ours["steps"][1]
        assert flat(ours["losses"]) == near(flat(ours["losses_alone"]))
        assert ours["weights"] == second[samples]["weights"] == near(ours["alone"])


def test_the_first_process_evaluates_every_sample_and_the_others_none(results):
    first, second = results("evaluation")
    for samples, seen in zip((1, 3, 5, 8), first, strict=True):
        assert seen["0"] == list(range(samples)) * 3  # before training, after step 2 and at the end
    assert second == [{}] * 4
