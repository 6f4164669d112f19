"""Optimizers by name, and their state by parameter name.

A parameter with several names is updated once. Weight decay is decoupled (Loshchilov and Hutter 2019: it
shrinks the weights and stays out of the moments), except for `sgd` and `adam`, where it is an L2 term. It
skips biases and LayerNorms: everything that is not a matrix.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from nemo.backends.pytorch.checkpoints.fit import check_fit
from nemo.backends.pytorch.optim.adamw import OnePassAdamW
from nemo.backends.pytorch.optim.layer_wise import (
    LAMB,
    Closure,
    Group,
    LayerwiseOptimizer,
    NovoGrad,
    adam_state,
    add_larc,
    can_fuse,
    evaluate,
)
from nemo.backends.pytorch.optim.lazy_compiler import import_compiler_late
from nemo.backends.pytorch.optim.muon import Muon
from nemo.utils.errors import UsageError
from nemo.utils.lookup import choose

# Name -> optimizer. The fused ones, from apex in NeMo 0.10, are aliases.
OPTIMIZERS = {
    "adam_w": "adam_w",
    "adam": "adam",
    "sgd": "sgd",
    "novograd": "novograd",
    "lamb": "lamb",
    "muon": "muon",
    "fused_adam": "adam_w",
    "fused_novograd": "novograd",
    "fused_lamb": "lamb",
}


def make_optimizer(
    name: str,
    named_parameters: Mapping[str, nn.Parameter],
    *,
    lr: float,
    lr_embeddings: float | None = None,
    lr_head: float | None = None,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    decay_bias_and_norm: bool = False,
    luc: bool = False,
    luc_eta: float = 1e-3,
    larc: bool = False,
    larc_eta: float = 0.02,
) -> Optimizer:
    """Create the optimizer `name`.

    Args:
        name: a key of `OPTIMIZERS`, in upper or lower case.
        named_parameters: the parameters to update, already on their device. `muon` takes the matrices inside
            a module called `encoder` and leaves the rest to AdamW.
        lr: learning rate; a policy may change `lr` of every group before each step.
        lr_embeddings: learning rate of a module called `embeddings`; None takes `lr`.
        lr_head: learning rate of everything outside of `embeddings` and `encoder`; None takes `lr`.
        betas: decay of the first and second moment; None takes `default_betas(name)`.
        eps: None means 1e-6 for lamb, 1e-8 for the others.
        weight_decay: weight decay of matrices.
        momentum: momentum of sgd.
        decay_bias_and_norm: apply weight decay to biases and norms, too.
        luc, luc_eta: clip each tensor's update to `luc_eta` times its norm; novograd only.
        larc, larc_eta: limit each tensor's rate to `larc_eta` |w| / |g|; sgd only.

    Raises:
        UsageError: an unknown name, a number out of range, an option of a different optimizer, or nothing to
            optimize.
    """
    # Long because it takes the options of every optimizer, and has one case for each.
    kind = choose(OPTIMIZERS, name.lower(), what="optimizer")
    rates = {"lr": lr, "lr_embeddings": lr_embeddings, "lr_head": lr_head}
    _check_numbers(betas, eps=eps, weight_decay=weight_decay, momentum=momentum, **rates)
    if (luc and kind != "novograd") or (larc and kind != "sgd"):
        raise UsageError(
            f"{'luc' if luc else 'larc'} is not supported by {name}",
            expected="luc with novograd, larc with sgd",
        )
    parameters = _unique(named_parameters)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UsageError("no parameters to optimize", fix="unfreeze a module or add one")

    import_compiler_late()
    vector_decay = weight_decay if decay_bias_and_norm else 0.0
    decays = weight_decay, vector_decay
    own_rates = {
        kind: rate for kind, rate in (("embeddings", lr_embeddings), ("head", lr_head)) if rate is not None
    }
    groups = _groups(parameters, *decays, own_rates)
    fused = can_fuse(parameters.values())
    beta1, beta2 = default_betas(name) if betas is None else betas
    moments: dict[str, Any] = {"betas": (float(beta1), float(beta2))}
    if eps is not None:
        moments["eps"] = eps

    match kind:
        case "adam_w" if all(p.device.type == "cpu" for p in parameters.values()):
            return OnePassAdamW(groups, lr, fused=True, **moments)
        case "adam_w":
            return AdamW(groups, lr, fused=fused, **moments)
        case "adam":
            return Adam(groups, lr, fused=fused, **moments)
        case "novograd":
            return NovoGrad(groups, lr, luc=luc, luc_eta=luc_eta, **moments)
        case "lamb":
            return LAMB(groups, lr, **moments)
        case "muon":
            hidden = {
                name: p for name, p in parameters.items() if p.ndim == 2 and _kind_of(name) == "encoder"
            }
            others = {name: p for name, p in parameters.items() if name not in hidden}
            if not (hidden and others):
                raise UsageError("muon needs a model with an encoder", fix="use adam_w")
            muon = Muon(hidden.values(), lr, weight_decay)
            groups = _groups(others, *decays, own_rates)
            return Joined(muon, AdamW(groups, lr, fused=fused, **moments))
        case _:
            sgd = SGD(groups, lr, momentum)
            if larc:
                add_larc(sgd, larc_eta)
            return sgd


def default_betas(name: str) -> tuple[float, float]:
    """The default decays of the first and second moment for the optimizer `name`.

    NovoGrad's are those of NeMo 0.10. They do not suit the others: Adam with 0.25 diverges.
    """
    return (0.95, 0.25) if OPTIMIZERS[name.lower()] == "novograd" else (0.9, 0.999)


class Joined(Optimizer):
    """Several optimizers with different parameters, used as one.

    `param_groups` holds the same objects as those of the optimizers, and all share one `state`.
    """

    def __init__(self, *optimizers: Optimizer):
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        for optimizer in optimizers:
            optimizer.state = self.state

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = evaluate(closure)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


def parameters_of(
    optimizer: Optimizer, named_parameters: Mapping[str, nn.Parameter]
) -> dict[str, nn.Parameter]:
    """The parameters that `optimizer` updates, each under the first of its names.

    Raises:
        UsageError: the optimizer has a parameter that is not in `named_parameters`.
    """
    return {name: parameter for name, (parameter, _) in _by_name(optimizer, named_parameters).items()}


def optimizer_state(optimizer: Optimizer, named_parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The state of `optimizer` as `<parameter>.<key>`, for example `dense.weight.exp_avg`.

    A trainable parameter that was never updated is included with its initial state. So an incomplete state is
    a damaged one.

    Raises:
        UsageError: a parameter has no name, or a third-party optimizer has a state that is not a tensor.
    """
    state = {}
    for name, (parameter, owner) in _by_name(optimizer, named_parameters).items():
        memory = optimizer.state.get(parameter)
        if not memory and parameter.requires_grad:
            memory = _blank_state(owner, parameter)
        for key, value in (memory or {}).items():
            if not isinstance(value, Tensor):
                raise UsageError(
                    f"the state of {type(owner).__name__} cannot be saved",
                    where=f"{name}.{key}",
                    found=type(value).__name__,
                    expected="a tensor",
                )
            state[f"{name}.{key}"] = value
    return state


def load_optimizer_state(
    optimizer: Optimizer,
    named_parameters: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Load a state returned by `optimizer_state` into `optimizer`: all of it, bit for bit, or nothing.

    Raises:
        CheckpointError: names, shapes or dtypes do not match; `optimizer` is unchanged.
    """
    owners = _by_name(optimizer, named_parameters)
    saved: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        saved.setdefault(name, {})[key] = tensor

    expected: dict[str, Tensor] = {}
    for name, (parameter, owner) in owners.items():
        if parameter.requires_grad or name in saved:
            memory = optimizer.state.get(parameter) or _blank_state(owner, parameter)
            if memory is None:  # a third-party optimizer, whose keys are unknown
                memory = {key: _beside(parameter, t) for key, t in saved.get(name, {}).items()}
            expected |= {f"{name}.{key}": value for key, value in memory.items()}
    check_fit("the optimizer's state", expected, tensors)

    optimizer.state.clear()
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter, _ = owners[name]
        optimizer.state[parameter][key] = tensor.to(expected[full_name].device, copy=True)


def _blank_state(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor] | None:
    """The initial state of a parameter, as torch creates it; None for an unknown optimizer."""
    defaults = optimizer.defaults
    match optimizer:
        case LayerwiseOptimizer():
            return optimizer.blank_state(parameter)
        case Adam() if not defaults["amsgrad"]:
            return adam_state(parameter, defaults["fused"] or defaults["capturable"])
        case SGD():
            return {"momentum_buffer": torch.zeros_like(parameter)} if defaults["momentum"] else {}
    return None


def _beside(parameter: Tensor, state: Tensor) -> Tensor:
    """The state on its parameter's device, except for counts, as torch does."""
    return state.to(parameter.device) if state.ndim else state


def _by_name(
    optimizer: Optimizer, named_parameters: Mapping[str, nn.Parameter]
) -> dict[str, tuple[nn.Parameter, Optimizer]]:
    """Name -> the parameter, and the optimizer (one of a joined one's) that updates it."""
    optimizers = optimizer.optimizers if isinstance(optimizer, Joined) else (optimizer,)
    owners = {p: one for one in optimizers for group in one.param_groups for p in group["params"]}
    named = {
        name: (parameter, owners[parameter])
        for name, parameter in _unique(named_parameters).items()
        if parameter in owners
    }
    if len(named) < len(owners):
        raise UsageError("the optimizer has parameters without a name", found=len(owners) - len(named))
    return named


def _unique(named_parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Each parameter once, under the first of its names."""
    first_names: dict[nn.Parameter, str] = {}
    for name, parameter in named_parameters.items():
        first_names.setdefault(parameter, name)
    return {name: parameter for parameter, name in first_names.items()}


def _kind_of(name: str) -> str:
    """The kind of a parameter: "encoder", "embeddings", or "head" for all others."""
    return next((kind for kind in ("encoder", "embeddings") if kind in name.split(".")), "head")


def _groups(
    parameters: Mapping[str, nn.Parameter],
    matrix_decay: float,
    vector_decay: float,
    rates: Mapping[str, float],
) -> list[Group]:
    """For each learning rate, two groups: matrices, and the rest (biases and LayerNorms).

    Those with the common rate come first.
    """
    groups: list[Group] = []
    kind_of = {name: _kind_of(name) for name in parameters if _kind_of(name) in rates}
    for kind in (None, *rates):
        members = [p for name, p in parameters.items() if kind_of.get(name) == kind]
        matrices = [p for p in members if p.ndim > 1]
        vectors = [p for p in members if p.ndim <= 1]
        own = {} if kind is None else {"lr": rates[kind]}
        groups.append({"params": matrices, "weight_decay": matrix_decay, "trust_ratio": True, **own})
        groups.append({"params": vectors, "weight_decay": vector_decay, "trust_ratio": False, **own})
    return [group for group in groups if group["params"]]


def _check_numbers(betas: tuple[float, float] | None, **numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and not 0 <= number < math.inf:
            raise UsageError("out of range", where=name, found=number, expected="0 or more")
    if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        raise UsageError("out of range", where="betas", found=betas, expected="two numbers in [0, 1)")
