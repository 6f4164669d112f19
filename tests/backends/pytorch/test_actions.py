"""The loop: updates, accumulation, evaluation, checkpoints."""

import traceback
from dataclasses import replace

import pytest
import torch
from torch import nn

from nemo.backends.pytorch import PtActions
from nemo.core import ActionCallback, CheckpointCallback, NeuralModuleFactory
from nemo.utils.errors import CheckpointError, NumericError, UsageError


def train(model, layer, callbacks=(), optimizer="sgd", seed=0, batches_per_step=1, **params):
    actions = PtActions(device="cpu", seed=seed)
    params = {"lr": 0.1, "max_steps": 5, **params}
    actions.train(model.wire(layer), optimizer, params, callbacks, batches_per_step=batches_per_step)
    return actions


@pytest.mark.parametrize(("batch_size", "batches_per_step"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_accumulation_equals_the_large_batch_for_unequal_masked_counts(
    toy, batches, batch_size, batches_per_step
):
    whole, parts = toy(), toy()
    train(whole, batches(samples=16, batch_size=8), max_steps=6)
    layer = batches(samples=16, batch_size=batch_size)
    train(parts, layer, max_steps=6, batches_per_step=batches_per_step)
    assert torch.allclose(whole.weights(), parts.weights(), atol=1e-6, rtol=0)


def test_the_rest_of_an_epoch_makes_an_update_of_its_own(toy, batches):
    layer = batches(samples=10, batch_size=2)  # 5 batches: 2 + 2 + 1
    actions = train(toy(), layer, num_epochs=2, max_steps=None, batches_per_step=2)
    assert (actions.step, actions.epoch_num, actions.items_seen) == (6, 2, 20)


def test_a_loss_of_a_step_is_reported_over_all_its_batches(toy, batches):
    class Keep(ActionCallback):
        def __init__(self, tensors):
            self.tensors, self.seen = tensors, []

        def on_iteration_end(self):
            self.seen.append([float(self.action.value_of(t)) for t in self.tensors])

    def losses(batch_size, batches_per_step=1):
        model = toy()
        tensors = model.wire(batches(samples=8, batch_size=batch_size))
        keep = Keep(tensors)
        params = {"lr": 0.1, "max_steps": 3}
        PtActions(device="cpu").train(tensors, "sgd", params, [keep], batches_per_step=batches_per_step)
        return keep.seen

    assert losses(batch_size=8)[0] == pytest.approx(losses(batch_size=2, batches_per_step=4)[0], rel=1e-6)


def test_max_steps_ends_inside_an_epoch(toy, batches):
    actions = train(toy(), batches(samples=8, batch_size=2), max_steps=6)
    assert (actions.step, actions.epoch_num, actions.batch_in_epoch) == (6, 1, 2)


def test_a_callback_may_plan_anew(toy, batches):
    class Shorter(ActionCallback):
        def on_iteration_end(self):
            rates.append(self.learning_rate)
            if self.step == 3:
                self.action.plan = replace(self.action.plan, max_steps=5, lr_policy=lambda lr, *_: lr / 8)

    rates = []
    actions = PtActions()
    actions.train(toy().wire(batches()), "sgd", {"lr": 0.8, "max_steps": 100}, [Shorter()])
    assert actions.step == 5 and rates == [0.8, 0.8, 0.8, 0.1, 0.1]


def test_an_update_neither_walks_through_the_model_nor_takes_stack_traces(toy, batches, monkeypatch):
    def counting(name, work):
        def counted(*args, **kwargs):
            calls[name] += 1
            return work(*args, **kwargs)

        return counted

    class Watch(ActionCallback):
        def on_iteration_start(self):
            before.append(dict(calls))

    calls, before = {"named_modules": 0, "format_stack": 0}, []
    monkeypatch.setattr(nn.Module, "named_modules", counting("named_modules", nn.Module.named_modules))
    monkeypatch.setattr(traceback, "format_stack", counting("format_stack", traceback.format_stack))
    PtActions().train(toy().wire(batches()), "sgd", {"lr": 0.1, "max_steps": 8}, [Watch()])
    # In the first step a model is walked through for what lasts.
    assert before[1:] == [before[1]] * 7 and before[1]["format_stack"] == before[0]["format_stack"]


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_waits_for_its_result_once(toy, batches, monkeypatch, clip):
    def counted(name, original):
        def read(tensor, *args):
            reads.append(name)
            return original(tensor, *args)

        return read

    class Watch(ActionCallback):
        def on_iteration_start(self):
            reads.clear()

        def on_iteration_end(self):
            of_steps.append(list(reads))

    reads, of_steps = [], []
    for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    params = {"lr": 0.1, "max_steps": 4, "grad_norm_clip": clip}
    PtActions().train(toy().wire(batches()), "sgd", params, [Watch()])
    # The gradient's norm with the loss; divisors were read before the step, of tensors that were on the CPU.
    assert of_steps == [["tolist"]] * 4


def test_hooks_come_in_order(toy, batches):
    class Log(ActionCallback):
        def __init__(self):
            self.moments = []

        def __getattribute__(self, name):
            if name.startswith("on_"):
                self.moments.append(name[3:])
            return super().__getattribute__(name)

    log = Log()
    train(toy(), batches(samples=4, batch_size=2), [log], max_steps=None, num_epochs=1)
    step = ["iteration_start", "iteration_end"]
    assert log.moments == [
        "restore", "action_start", "epoch_start", *step, *step, "epoch_end", "action_end"
    ]  # fmt: skip


def test_training_again_with_the_same_seed_gives_the_same_weights(toy, batches):
    first, second, other = toy(dropout=0.5), toy(dropout=0.5), toy(dropout=0.5)
    train(first, batches(shuffle=True))
    torch.rand(3)  # the state of the global generator must not matter
    train(second, batches(shuffle=True))
    train(other, batches(shuffle=True), seed=1)
    assert torch.equal(first.weights(), second.weights())
    assert not torch.equal(first.weights(), other.weights())


def test_training_leaves_the_generator_to_its_owner(toy, batches):
    model = toy(dropout=0.5)
    before = torch.get_rng_state()
    train(model, batches(), max_steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_a_run_that_stops_and_resumes_gives_the_same_weights_bit_for_bit(toy, batches, tmp_path, stop):
    def layer():
        return batches(samples=10, batch_size=2, shuffle=True)  # 5 batches, 3 steps an epoch

    def run(model, steps, folder):
        checkpoints = CheckpointCallback(tmp_path / folder, step_freq=1)
        options = {"max_steps": steps, "batches_per_step": 2, "optimizer": "adam_w"}
        return train(model, layer(), [checkpoints], **options)

    whole = toy(dropout=0.3)
    run(whole, 8, "whole")
    run(toy(dropout=0.3), stop, "parts")
    resumed = toy(dropout=0.3)
    with torch.no_grad():
        for module in resumed.modules:
            for parameter in module.parameters():
                parameter.add_(1)  # whatever it starts from is replaced
    actions = run(resumed, 8, "parts")
    assert torch.equal(whole.weights(), resumed.weights())
    assert (actions.step, actions.epoch_num, actions.batch_in_epoch) == (8, 2, 4)


def test_a_checkpoint_of_another_run_is_refused(toy, batches, tmp_path):
    def run(stream):
        callback = CheckpointCallback(tmp_path, step_freq=1, stream=stream)
        train(toy(), batches(), [callback], max_steps=2)

    run({"data": "abc"})
    with pytest.raises(CheckpointError, match="a run with another data; found abc, expected xyz"):
        run({"data": "xyz"})


def test_loading_from_an_empty_folder_is_an_error(toy, batches, tmp_path):
    callback = CheckpointCallback(tmp_path / "mine", load_from_folder=tmp_path / "none", step_freq=1)
    with pytest.raises(CheckpointError, match="no checkpoint to continue from"):
        train(toy(), batches(), [callback])


def test_a_tied_weight_is_one_parameter_and_is_saved_once(toy, batches, tmp_path):
    from nemo.backends.pytorch.checkpoints.module_state import parameters_by_name, weights_by_part
    from nemo.backends.pytorch.graph.graph_module import GraphModule
    from nemo.core import WeightShareTransform

    model = toy()
    model.head.tie_weights_with(
        model.encoder,
        ["linear.weight"],
        {"linear.weight": ("embedding.weight", WeightShareTransform.SAME)},
    )
    graph = GraphModule(model.wire(batches()))
    assert model.head.linear.weight is model.encoder.embedding.weight
    assert "Head.linear.weight" not in parameters_by_name(graph.parts)
    assert list(weights_by_part(graph.parts)["Head"]) == ["linear.bias"]

    # Plain SGD moves the shared weight by the sum of both gradients, once.
    before = model.encoder.embedding.weight.detach().clone()
    (batch, *_) = batches().batches(0)
    sum(graph(batch)[loss] for loss in graph.outputs).backward()
    gradient = model.encoder.embedding.weight.grad.clone()
    graph.zero_grad()
    train(model, batches(), max_steps=1, momentum=0.0)
    assert torch.allclose(model.encoder.embedding.weight, before - 0.1 * gradient, atol=1e-7)


def test_a_tie_of_other_sizes_is_refused_with_both(toy):
    model = toy()
    with pytest.raises(UsageError, match=r"shapes differ; found \(2, 4\), expected \(7, 4\)"):
        model.first.tie_weights_with(
            model.encoder, ["linear.weight"], {"linear.weight": ("embedding.weight", _same())}
        )


def _same():
    from nemo.core import WeightShareTransform

    return WeightShareTransform.SAME


def test_a_loss_that_is_not_finite_stops_before_the_update(toy, batches):
    model = toy()
    with torch.no_grad():
        model.first.linear.bias[0] = float("inf")
    before = model.weights()
    with pytest.raises(NumericError, match="step 1, epoch 0, batch 0: the loss or its gradient is not"):
        train(model, batches())
    assert torch.equal(before, model.weights())


def test_the_gradient_is_clipped_to_its_norm(toy, batches):
    free, clipped = toy(), toy()
    start = free.weights()
    options = {"max_steps": 1, "momentum": 0.0}
    actions = train(free, batches(), **options)
    train(clipped, batches(), grad_norm_clip=actions.grad_norm / 2, **options)
    assert torch.allclose((clipped.weights() - start) * 2, free.weights() - start, atol=1e-6)


def test_evaluation_weighs_batches_by_what_they_count_and_keeps_dropout_off(toy, batches):
    model = toy(dropout=0.5)
    masked, _ = model.wire(batches(samples=8, batch_size=3))
    actions = PtActions(device="cpu")
    sums = torch.zeros(2)
    for values in actions.evaluate([masked]):
        total, count = values.statistics[masked]["loss"]
        sums += torch.stack([total, count])
    whole = toy()
    ((expected,),) = actions.infer([whole.wire(batches(samples=8, batch_size=8))[0]])
    assert sums[0] / sums[1] == pytest.approx(float(expected), rel=1e-6)
    assert model.encoder.training


def test_the_factory_trains_infers_and_refuses_a_second_training(toy, batches, tmp_path):
    factory = NeuralModuleFactory(log_dir=tmp_path, random_seed=3)
    model = toy()
    losses = model.wire(batches())
    callback = CheckpointCallback(factory.checkpoint_dir, step_freq=2)
    params = {"lr": 0.1, "num_epochs": 1, "batch_size": 2}
    factory.train(list(losses), optimizer="sgd", optimization_params=params, callbacks=[callback])
    trained = model.weights()
    with torch.no_grad():
        model.first.linear.bias.add_(1)
    factory.infer([losses[1]], checkpoint_dir=factory.checkpoint_dir)
    assert torch.equal(model.first.linear.bias, trained[-2:])
    with pytest.raises(UsageError, match="has trained already"):
        factory.train(list(losses), optimizer="sgd", optimization_params=params)


def test_batch_norms_are_not_synchronized_and_nobody_is_left_to_think_so(toy, batches):
    factory = NeuralModuleFactory()
    factory.train(toy().wire(batches()), "sgd", {"lr": 0.1, "max_steps": 1}, synced_batchnorm=True)
    factory.world_size = 2
    with pytest.raises(UsageError, match=r"batch norms are not synchronized.*True with 2 processes"):
        factory.train(toy().wire(batches()), "sgd", {"lr": 0.1}, synced_batchnorm=True, reset=True)


def test_a_torch_optimizer_keeps_its_own_rate_and_follows_a_policy(toy, batches):
    def run(model, optimizer, params, policy=None):
        PtActions(device="cpu").train(model.wire(batches()), optimizer, params, lr_policy=policy)

    by_name, given, stopped = toy(), toy(), toy()
    run(by_name, "sgd", {"lr": 0.1, "max_steps": 3, "momentum": 0.0})
    sgd = torch.optim.SGD([p for m in given.modules for p in m.parameters()], lr=0.1)
    run(given, sgd, {"max_steps": 3})
    assert torch.equal(by_name.weights(), given.weights())

    sgd = torch.optim.SGD([p for m in stopped.modules for p in m.parameters()], lr=0.1)
    before = stopped.weights()
    run(stopped, sgd, {"max_steps": 3}, policy=lambda lr, step, epoch: 0 * lr)
    assert torch.equal(before, stopped.weights())


def test_objectives_take_turns_each_with_its_own_optimizer(toy, batches):
    class Watch(ActionCallback):
        def __init__(self, model):
            self.model, self.moved = model, []

        def on_iteration_start(self):
            self.before = [p.detach().clone() for m in self.model.modules for p in m.parameters()]

        def on_iteration_end(self):
            after = [p for m in self.model.modules for p in m.parameters()]
            self.moved.append([not torch.equal(a, b) for a, b in zip(self.before, after, strict=True)])

    model = toy()
    masked, sequence = model.wire(batches())
    actions, watch = PtActions(device="cpu"), Watch(model)
    first = actions.create_optimizer("sgd", [model.head], {"lr": 0.1})
    second = actions.create_optimizer("sgd", [sequence], {"lr": 0.1})
    pairs = [(first, [masked]), (second, [sequence])]
    actions.train(pairs, optimization_params={"max_steps": 4}, callbacks=[watch])
    encoder, head, first_token = [True] * 3, [True] * 2, [True] * 2
    head_alone = [*[False] * 3, *head, *[False] * 2]
    assert watch.moved == [head_alone, [*encoder, False, False, *first_token]] * 2


def test_an_objective_leaves_no_gradient_to_the_next(toy, batches):
    def encoder_after(model, *objectives):
        masked, sequence = model.wire(batches(samples=8, batch_size=8))
        actions = PtActions(device="cpu")
        losses = {"masked": (model.head, masked), "sequence": (model.encoder, sequence)}
        pairs = [
            (actions.create_optimizer("sgd", losses[name][0], {"lr": 0.1}), [losses[name][1]])
            for name in objectives
        ]
        actions.train(pairs, optimization_params={"max_steps": len(pairs)})
        return torch.cat([p.detach().flatten() for p in model.encoder.parameters()])

    assert torch.equal(encoder_after(toy(), "masked", "sequence"), encoder_after(toy(), "sequence"))


def test_several_objectives_resume_to_the_bit(toy, batches, tmp_path):
    def run(model, steps, folder):
        masked, sequence = model.wire(batches(samples=10, shuffle=True))
        actions = PtActions(device="cpu")
        pairs = [
            (actions.create_optimizer("adam_w", model.encoder, {"lr": 0.1}), [masked]),
            (actions.create_optimizer("novograd", [masked, sequence], {"lr": 0.1}), [sequence]),
        ]
        callback = CheckpointCallback(tmp_path / folder, step_freq=1)
        actions.train(pairs, optimization_params={"max_steps": steps}, callbacks=[callback])

    whole, resumed = toy(), toy()
    run(whole, 7, "whole")
    run(toy(), 4, "parts")
    run(resumed, 7, "parts")
    assert torch.equal(whole.weights(), resumed.weights())


@pytest.mark.parametrize("given", [[], ["loss"], None, [(1, 2)]])
def test_what_cannot_be_optimized_is_named(given):
    with pytest.raises(UsageError, match=r"tensors_to_optimize: these cannot be optimized; found"):
        PtActions(device="cpu").train(given, "sgd", {"lr": 0.1, "max_steps": 1})


def test_a_tensor_that_is_no_loss_is_refused(toy, batches):
    model = toy()
    model.wire(batches())
    with pytest.raises(UsageError, match=r"Head\.logits: cannot be optimized; found a .* \(2, 5, 7\)"):
        PtActions(device="cpu").train(model.logits, "sgd", {"lr": 0.1, "max_steps": 1})


def test_a_training_that_never_began_may_be_tried_again(toy, batches):
    model, factory = toy(), NeuralModuleFactory()
    losses, params = model.wire(batches()), {"lr": 0.1, "max_steps": 1}
    with pytest.raises(UsageError, match="cannot be optimized"):
        factory.train(model.logits, "sgd", params)
    factory.train(losses, "sgd", params)
    assert factory.get_trainer().step == 1


def test_updates_with_a_loss_that_is_not_finite_are_skipped_on_demand(toy, batches):
    class Break(ActionCallback):
        """Breaks the bias before steps 2 and 3, mends it after them."""

        def __init__(self, bias):
            self.bias, self.kept = bias, []

        def on_iteration_start(self):
            with torch.no_grad():
                self.was = float(self.bias[0])
                if self.step in (1, 2):
                    self.bias[0] = float("inf")

        def on_iteration_end(self):
            with torch.no_grad():
                if self.step in (2, 3):
                    self.kept.append(torch.isinf(self.bias[0]).item())
                    self.bias[0] = self.was

    model = toy()
    actions, broken = PtActions(device="cpu"), Break(model.first.linear.bias)
    params = {"lr": 0.1, "max_steps": 5}
    actions.train(model.wire(batches()), "sgd", params, [broken], when_not_finite="skip")
    assert broken.kept == [True, True] and actions.step == 5
    assert model.weights().isfinite().all()

    with torch.no_grad():
        model.first.linear.bias[0] = float("inf")
    actions = PtActions(device="cpu")
    with pytest.raises(NumericError, match="step 4"):  # three in a row are skipped
        actions.train(model.wire(batches()), "sgd", params, when_not_finite="skip")


def test_a_callback_gets_whole_tensors_when_it_reads_and_costs_nothing_when_not(toy, batches):
    class Read(ActionCallback):
        def __init__(self, tensor):
            self.tensors, self.shapes = [tensor], []

        def reads_at(self, step):
            return step == 2

        def on_iteration_end(self):
            self.shapes.append([tuple(v.shape) for v in self.registered_tensors.values()])

    model = toy()
    losses = model.wire(batches(samples=4, batch_size=4))  # 0 + 1 + 2 + 3 masked rows, of 20
    read = Read(model.logits)
    PtActions(device="cpu").train(losses, "sgd", {"lr": 0.1, "max_steps": 3}, [read])
    assert read.shapes == [[], [(4, 5, 7)], []]
    assert model.head.rows_computed == [6, 20, 6]


def test_inference_computes_only_what_is_not_cached(toy, batches):
    factory = NeuralModuleFactory()
    model = toy()
    layer = batches(samples=6, batch_size=2)
    model.wire(layer)
    (logits,) = factory.infer([model.logits], cache=True, verbose=False)
    assert [tuple(value.shape) for value in logits] == [(2, 5, 7)] * 3
    with torch.no_grad():
        model.encoder.embedding.weight.zero_()  # not read again
    second = model.head(hidden=model.hidden)
    (again,) = factory.infer(second, use_cache=True, verbose=False)
    assert all(torch.equal(a, b) for a, b in zip(logits, again, strict=True))
    assert len(model.encoder.rows_computed) == 3 and len(model.head.rows_computed) == 6


def test_caches_that_contradict_each_other_are_refused(toy, batches):
    factory = NeuralModuleFactory()
    model, other = toy(), toy()
    model.wire(batches())
    other.wire(batches())
    with pytest.raises(ValueError, match="use_cache was set, but cache was empty"):
        factory.infer([model.hidden], use_cache=True)
    factory.infer([model.hidden], cache=True)
    with pytest.raises(ValueError, match="cache was set but was not empty"):
        factory.infer([model.hidden], cache=True)
    with pytest.raises(ValueError, match="cache and use_cache were both set"):
        factory.infer([model.hidden], cache=True, use_cache=True)
    with pytest.raises(ValueError, match="the cache is of other data"):
        factory.infer([other.hidden], use_cache=True)
    factory.clear_cache()
    factory.infer([model.hidden], cache=True)


def test_inference_restores_what_it_is_told_to(toy, batches, tmp_path):
    def biases(model):
        return [model.head.linear.bias.detach().clone(), model.first.linear.bias.detach().clone()]

    model = toy()
    seen = {}

    class Remember(ActionCallback):
        def on_iteration_end(self):
            seen[self.step] = biases(model)

    callbacks = [CheckpointCallback(tmp_path, step_freq=1), Remember()]
    actions = train(model, batches(), callbacks, max_steps=3)
    masked, sequence = model.wire(batches())
    actions.infer([masked, sequence], tmp_path, ckpt_pattern="STEP-2", modules_to_restore=[model.first])
    head, first = biases(model)
    assert torch.equal(head, seen[3][0]) and torch.equal(first, seen[2][1])
    with pytest.raises(CheckpointError, match="no checkpoint"):
        actions.infer([masked], tmp_path, ckpt_pattern="STEP-9")


def test_counters_and_optimizers_round_trip_through_a_file_without_pickle(toy, batches, tmp_path):
    path = tmp_path / "optimizer.pt"
    model = toy()
    actions = PtActions(device="cpu")
    for lr, name in enumerate(("sgd", "novograd", "adam", "adam_w"), start=1):
        actions.create_optimizer(name, [model.head], {"lr": float(lr)})
    model.head(torch.ones(2, 5, 4), force_pt=True).sum().backward()
    for optimizer in actions.optimizers:
        optimizer.step()
    moments = actions.optimizers[3].state[model.head.linear.weight]["exp_avg"].clone()
    actions.save_state_to(path)
    actions.step, actions.epoch_num = 123, 324
    for optimizer in actions.optimizers:
        optimizer.param_groups[0]["lr"] = 7.0
        optimizer.state.clear()
    actions.restore_state_from(path)
    assert [o.param_groups[0]["lr"] for o in actions.optimizers] == [1.0, 2.0, 3.0, 4.0]
    assert torch.equal(actions.optimizers[3].state[model.head.linear.weight]["exp_avg"], moments)
    assert (actions.step, actions.epoch_num) == (0, 0)
    with pytest.raises(CheckpointError, match="of other optimizers; found 4, expected 0"):
        PtActions(device="cpu").restore_state_from(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(CheckpointError, match=r"optimizer\.pt: not the state of these optimizers"):
        actions.restore_state_from(path)


def test_a_module_that_is_unfrozen_on_the_way_is_trained_and_resumes(toy, batches, tmp_path):
    class Unfreeze(ActionCallback):
        def __init__(self, module):
            self.module = module

        def on_iteration_start(self):
            if self.step >= 2:
                self.module.unfreeze()

    def run(model, steps, folder):
        model.head.freeze()
        callbacks = [Unfreeze(model.head), CheckpointCallback(tmp_path / folder, step_freq=1)]
        train(model, batches(), callbacks, optimizer="adam_w", max_steps=steps)

    frozen, whole = toy(), toy()
    start = frozen.head.linear.weight.detach().clone()
    run(frozen, 2, "frozen")
    assert torch.equal(frozen.head.linear.weight, start)
    run(whole, 6, "whole")
    assert not torch.equal(whole.head.linear.weight, start)
    run(toy(), 4, "parts")
    resumed = toy()
    run(resumed, 6, "parts")
    assert torch.equal(whole.weights(), resumed.weights())
