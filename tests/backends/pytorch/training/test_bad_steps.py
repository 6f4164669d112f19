"""Losses and gradients that are not finite: never a step, and what was asked for instead."""

import json
from itertools import pairwise

import pytest
import torch

from nemo.collections.nlp.callbacks.run_record import RunRecord
from nemo.core import ActionCallback, CheckpointCallback, NeuralModuleFactory
from nemo.utils.errors import NumericError
from nemo.utils.work_folder import WorkFolder

PARAMS = {"lr": 0.1, "max_steps": 6}


class Watch(ActionCallback):
    """Keeps the weights before every step, and what it is told of."""

    def __init__(self, model):
        self.model, self.steps, self.weights, self.bad = model, [], [], []

    def on_iteration_start(self):
        self.steps.append(self.step)
        self.weights.append(self.model.weights())

    def on_bad_step(self, bad):
        self.bad.append(bad)


@pytest.fixture
def poisoned(batches):
    """Eight samples in the order they are stored, of which number 5, in the third batch, is not finite."""

    def layer(*samples):
        made = batches()
        for sample in samples or (5,):
            made.dataset.tensors[2][sample, 0] = torch.inf
        return made

    return layer


def train(model, layer, *callbacks, **options):
    factory = NeuralModuleFactory()
    watch = Watch(model)
    factory.train(model.wire(layer), "sgd", PARAMS, [watch, *callbacks], **options)
    return watch, factory.get_trainer()


def test_training_stops_and_names_the_samples(toy, poisoned):
    model = toy()
    watch = Watch(model)
    told = r"step 3, epoch 0, batch 2: .*in Encoder.embedding.weight, .*samples 4, 5.*expected finite numbers"
    with pytest.raises(NumericError, match=told) as problem:
        NeuralModuleFactory().train(model.wire(poisoned()), "sgd", PARAMS, [watch])
    assert problem.value.exit_code == 6
    assert torch.equal(model.weights(), watch.weights[2])
    (bad,) = watch.bad
    assert (bad.step, bad.epoch, bad.batches, bad.samples) == (3, 0, (2, 3), [4, 5])
    assert any("embedding" in name for name in bad.weights)


def test_skipping_continues_with_unchanged_weights(toy, poisoned):
    watch, actions = train(toy(), poisoned(), when_not_finite="skip")
    assert watch.steps == [0, 1, 2, 3, 4, 5] and actions.step == 6
    same = [torch.equal(before, after) for before, after in pairwise(watch.weights)]
    assert same == [False, False, True, False, False]


def test_rewinding_takes_old_weights_and_new_batches(toy, poisoned, tmp_path):
    model = toy()
    saved = CheckpointCallback(tmp_path, step_freq=1)
    watch, actions = train(model, poisoned(), saved, when_not_finite="rewind")
    assert watch.steps == [0, 1, 2, 2, 3, 4, 5, 5] and actions.step == 6
    assert torch.equal(watch.weights[2], watch.weights[3])
    # What is trained on are batches 0, 1 and 3 of both epochs.
    assert [(bad.step, bad.epoch, bad.batches) for bad in watch.bad] == [(3, 0, (2, 3)), (6, 1, (2, 3))]


def test_rewinding_returns_to_the_newest_checkpoint(toy, poisoned, tmp_path):
    watch, actions = train(
        toy(), poisoned(7), CheckpointCallback(tmp_path, step_freq=2), when_not_finite="rewind"
    )
    assert watch.steps == [0, 1, 2, 3, 2, 3, 4, 5, 4, 5] and actions.step == 6
    assert torch.equal(watch.weights[2], watch.weights[4])
    assert (actions.epoch_num, actions.batch_in_epoch) == (2, 2)


@pytest.mark.parametrize("option", ["skip", "rewind"])
def test_three_in_a_row_are_enough(toy, poisoned, tmp_path, option):
    model = toy()
    saved = CheckpointCallback(tmp_path, step_freq=1)
    watch = Watch(model)
    with pytest.raises(NumericError, match="epoch 0, batch 3"):
        NeuralModuleFactory().train(
            model.wire(poisoned(3, 5, 7, 1)),
            "sgd",
            PARAMS,
            [watch, saved],
            when_not_finite=option,
        )
    assert len(watch.bad) == 4
    assert model.weights().isfinite().all()


def test_a_rewound_run_ends_the_same_when_it_is_resumed(toy, poisoned, tmp_path):
    whole = toy()
    train(whole, poisoned(), CheckpointCallback(tmp_path / "a", step_freq=2), when_not_finite="rewind")

    class Stop(ActionCallback):
        def on_iteration_start(self):
            if len(seen) == 4:
                raise KeyboardInterrupt
            seen.append(self.step)

    seen, half = [], toy()
    saved = CheckpointCallback(tmp_path / "b", step_freq=2)
    with pytest.raises(KeyboardInterrupt):
        train(half, poisoned(), saved, Stop(), when_not_finite="rewind")
    assert seen == [0, 1, 2, 2]
    rest = toy()
    saved = CheckpointCallback(tmp_path / "b", step_freq=2)
    train(rest, poisoned(), saved, when_not_finite="rewind")
    assert torch.equal(rest.weights(), whole.weights())


def test_a_resumed_run_knows_the_steps_that_rewinds_have_undone(toy, poisoned, tmp_path):
    """What follows from step and place alone, such as a masking rate, is the same after a resume."""

    class Watch(ActionCallback):
        def __init__(self, stop=None):
            self.distances, self.stop = {}, stop

        def on_iteration_start(self):
            begun = self.step + self.action.steps_undone - self.action.batch_in_epoch
            self.distances[self.step, self.epoch_num, self.action.batch_in_epoch] = begun
            if self.stop == (self.epoch_num, self.action.batch_in_epoch):
                raise KeyboardInterrupt

    def run(folder, watch):
        saved = CheckpointCallback(tmp_path / folder, step_freq=1)
        train(toy(), poisoned(3), saved, watch, when_not_finite="rewind")
        return watch.distances

    whole = run("whole", Watch())
    place = max(place for place in whole if place[1] == 0)
    assert place[0] < place[2]  # there was a rewind in this epoch
    with pytest.raises(KeyboardInterrupt):
        run("half", Watch(stop=place[1:]))
    rest = run("half", Watch())
    assert rest == {place: begun for place, begun in whole.items() if place in rest} and len(rest) > 1


def test_rewinding_removes_metrics_but_keeps_bad_steps(toy, poisoned, tmp_path):
    model = toy()
    losses = model.wire(poisoned(7))
    work_folder = WorkFolder(tmp_path)
    record = RunRecord(work_folder, {"loss": losses[0]}, step_freq=1)
    saved = CheckpointCallback(tmp_path / "checkpoints", step_freq=2)
    NeuralModuleFactory().train(losses, "sgd", PARAMS, [record, saved], when_not_finite="rewind")
    rows = [json.loads(line) for line in work_folder.metrics_path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(row["tokens_per_s"] > 0 for row in rows)
    bad, _ = [json.loads(line) for line in work_folder.bad_steps_path.read_text().splitlines()]
    assert (bad["step"], bad["samples"], bad["loss"]) == (4, [6, 7], None)


def test_an_unknown_value_of_when_not_finite_is_refused(toy, batches):
    with pytest.raises(ValueError, match="when_not_finite: not one of the choices; found 'retry'"):
        NeuralModuleFactory().train(toy().wire(batches()), "sgd", PARAMS, when_not_finite="retry")
