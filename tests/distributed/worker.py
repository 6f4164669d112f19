"""What processes do in tests: `worker.py FOLDER CASE ...` runs cases of this file, one after the other.

What a case returns goes to FOLDER/<case>.<rank>.json. Toys are those of other tests; world size 1 is what the
result is held to, as a process trains alone as well.
"""

import atexit
import json
import os
import sys
import threading
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.distributed import gradient_sum, watchdog
from nemo.backends.pytorch.distributed.world import World, join
from nemo.cli.main import main
from nemo.core import (
    ActionCallback,
    CheckpointCallback,
    EvaluatorCallback,
    NeuralModuleFactory,
    WeightShareTransform,
)
from nemo.utils.errors import DataError
from tests.backends.pytorch.conftest import Batches, Encoder, Toy

FOLDER = Path(sys.argv[1])
SECONDS_UNTIL_HUNG = float(os.environ.get("SECONDS_UNTIL_HUNG", "600"))


class TiedToy(Toy):
    """The head scores with the embedding."""

    def __init__(self, dropout=0.0):
        super().__init__(dropout)
        same = ("embedding.weight", WeightShareTransform.SAME)
        self.head.tie_weights_with(self.encoder, ["linear.weight"], {"linear.weight": same})

    def num_weights(self):
        return sum(p.numel() for p in {p for m in self.modules for p in m.parameters()})


class Keep(ActionCallback):
    """Remembers the losses of every step."""

    def __init__(self, tensors):
        self.tensors, self.losses = tensors, []

    def on_iteration_end(self):
        self.losses.append([float(self.action.value_of(t)) for t in self.tensors])


def train(world, model=None, batch_size=4, batches_per_step=1, callbacks=(), seen=None, **options):
    """Train a toy; `batch_size` is that of one process of `world`."""
    model = model or Toy()
    of_actions = {k: options.pop(k) for k in ("optimization_level", "gradient_dtype") if k in options}
    layer = Seen(seen, samples=options.pop("samples", 32), batch_size=batch_size, shuffle=True)
    losses = model.wire(layer)
    keep = Keep(losses)
    actions = PtActions(device="cpu", world=world, global_rank=world.rank, **of_actions)
    params = {"lr": 0.1, "max_steps": 12, **options}
    actions.train(
        losses, params.pop("optimizer", "sgd"), params, [keep, *callbacks], batches_per_step=batches_per_step
    )
    return actions, model.weights().tolist(), keep.losses


class Seen(Batches):
    """Notes the samples it gives, epoch by epoch."""

    def __init__(self, seen, **options):
        super().__init__(**options)
        self.seen = seen

    def batches(self, epoch, first=0, stride=1):
        order = self.order(epoch).tolist()
        for number, batch in enumerate(super().batches(epoch, first, stride)):
            if self.seen is not None:
                start = (first + number * stride) * self.batch_size
                self.seen.setdefault(epoch, []).extend(order[start : start + self.batch_size])
            yield batch


# What is sent


class Sent(ActionCallback):
    """Records a step: its passes through the encoder, and what is summed over processes, in order."""

    def __init__(self, at_step):
        self.at_step, self.events = at_step, []

    def on_iteration_start(self):
        if self.step + 1 == self.at_step:
            self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
            self._profile.start()

    def on_iteration_end(self):
        if self.step == self.at_step:
            self._profile.stop()
            events = sorted(self._profile.events(), key=lambda e: e.time_range.start)
            names = {"gloo:all_reduce": "sum", "forward": "forward"}
            self.events = [[names[e.name], e.input_shapes] for e in events if e.name in names]


class Marked(Encoder):
    """Says in a profile when it begins."""

    def forward(self, tokens, rows=None):
        with record_function("forward"):
            return super().forward(tokens, rows)


def of_marked(kind):
    model = kind()
    model.encoder.__class__ = Marked
    return model


def sent(world, **options):
    model, counter = of_marked(TiedToy), Sent(at_step=3)
    actions, weights, losses = train(world, model, callbacks=[counter], **options)
    (sums,) = actions.replicas._sums.values()
    return {
        "events": counter.events,
        "bytes": sums.num_bytes,
        "messages": sums.num_messages,
        "num_weights": model.num_weights(),
        "weights": weights,
        "losses": losses,
    }


def accumulation(world):
    return sent(world, batches_per_step=3)


def several_messages(world):
    whole, gradient_sum.BYTES_OF_BUCKET = gradient_sum.BYTES_OF_BUCKET, 100
    try:
        return {**sent(world), "alone": train(World(), TiedToy(), batch_size=8)[1]}
    finally:
        gradient_sum.BYTES_OF_BUCKET = whole


def bf16_gradients(world):
    return {**sent(world, gradient_dtype="bfloat16"), "alone": train(World(), TiedToy(), batch_size=8)[1]}


def level_o2(world):
    return of_both(world, optimization_level="O2")


def of_both(world, **options):
    """Weights and losses of all processes, and of one."""
    _, weights, losses = train(world, batch_size=4, **options)
    _, weights_alone, losses_alone = train(World(), batch_size=4 * world.size, **options)
    return {"weights": weights, "losses": losses, "alone": weights_alone, "losses_alone": losses_alone}


def two_objectives(world):
    def run(world, batch_size):
        model = Toy()
        masked, sequence = model.wire(Batches(samples=32, batch_size=batch_size))
        actions = PtActions(device="cpu", world=world)
        first = actions.create_optimizer("sgd", [model.encoder, model.head], {"lr": 0.1})
        second = actions.create_optimizer("adam_w", [model.encoder, model.first], {"lr": 0.01})
        actions.train([(first, [masked]), (second, [sequence])], None, {"max_steps": 9})
        return model.weights().tolist()

    return {"weights": run(world, 4), "alone": run(World(), 8)}


# Ends of epochs


def uneven_ends(world):
    results = {}
    for samples in range(1, 17):  # of 8 to a step
        seen: dict = {}
        options = {"samples": samples, "max_steps": None, "num_epochs": 2}
        actions, weights, losses = train(world, batch_size=2, batches_per_step=2, seen=seen, **options)
        alone, weights_alone, losses_alone = train(World(), batch_size=8, **options)
        results[samples] = {
            "seen": seen,
            "items": [actions.items_seen, alone.items_seen],
            "steps": [actions.step, alone.step],
            "weights": weights,
            "alone": weights_alone,
            "losses": losses,
            "losses_alone": losses_alone,
        }
    return results


def evaluation(world):
    counts = []
    for samples in (1, 3, 5, 8):
        model = Toy()
        tensors = model.wire(Seen(seen := {}, samples=samples, batch_size=2))
        callback = EvaluatorCallback(tensors, lambda batch, state: None, lambda state: None, eval_step=2)
        train(world, model, callbacks=[callback], max_steps=3)
        counts.append(seen)
    return counts


# Faults


class Hang(ActionCallback):
    """In rank 1. The limit is short only now: what a process does first may take long."""

    def on_iteration_end(self):
        if self.action.world.rank == 1:
            time.sleep(10_000)
        self.action.world._watchdog._seconds_until_hung = 10.0


class Endless(ActionCallback):
    """Says that training is going on, when this process has left a note and knows rank 0's."""

    def on_iteration_end(self):
        if self.action.world._watchdog._first is not None:
            (FOLDER / f"training.{self.action.world.rank}").touch()
        time.sleep(0.01)


class OneBadSample(Batches):
    def batches(self, epoch, first=0, stride=1):
        for number, batch in enumerate(super().batches(epoch, first, stride)):
            if number == 3 and first == 1:
                raise DataError("a record that cannot be read", where="text:7")
            yield batch


def hang(world):
    train(world, callbacks=[Hang()])


def endless(world):
    train(world, callbacks=[Endless()], max_steps=10**9)


def bad_data(world):
    PtActions(device="cpu", world=world).train(
        Toy().wire(OneBadSample(32, 2)), "sgd", {"lr": 0.1, "max_steps": 12}
    )


def no_folder(world, *callbacks):
    (FOLDER / "file").touch()
    train(world, callbacks=[CheckpointCallback(FOLDER / "file" / "checkpoints", step_freq=3), *callbacks])


class SlowListener(ActionCallback):
    """Rank 1 looks for news seldom from now on, as on a busy machine."""

    def on_iteration_end(self):
        if self.action.world.rank == 1 and self.step == 1:
            watchdog.SECONDS_BETWEEN_NOTES = 6.0
            time.sleep(2)  # so that the last short pause is over


def slow_listener(world):
    """Rank 0, which has the news, fails after three steps."""
    no_folder(world, SlowListener())


class LateStore:
    """The store of a busy machine: every answer takes three seconds."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        def ask(*words):
            time.sleep(3)
            return getattr(self._store, name)(*words)

        return ask


def late_answers(world):
    """Rank 1 fails while its watchdog has questions, and says which threads its end would abort."""
    if world.rank == 1:
        atexit.register(lambda: sys.stderr.write(f"{[t.name for t in threading.enumerate()]} at the end\n"))
        world._watchdog._store = LateStore(world._watchdog._store)
        time.sleep(2)
        raise DataError("a record that cannot be read", where="text:7")
    world.barrier("the end")


def other_model(world):
    model = Toy()
    if world.rank == 1:
        model.head.linear = torch.nn.Linear(4, 9)
    train(world, model)


def run(cases):
    with join(torch.device("cpu"), SECONDS_UNTIL_HUNG) as world:
        rank = world.rank
        factory = NeuralModuleFactory()
        assert (factory.world_size, factory.global_rank) == (world.size, rank)
        for case in cases:
            result = globals()[case](world)
            (FOLDER / f"{case}.{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], run))
