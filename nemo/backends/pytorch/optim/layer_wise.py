"""Layer-wise adaptive optimizers, which use the norm of each tensor: NovoGrad, LAMB, and LARC for SGD.

|x| is the Euclidean norm of a whole tensor, w a weight, g its gradient.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.adam import adam

Group = dict[str, Any]
Closure = Callable[[], float]
AddUp = Callable[[Tensor], Tensor]


class LayerwiseOptimizer(Optimizer):
    """Base class of optimizers that update all tensors of a group at once.

    Attributes:
        add_up: with sharded tensors, turns the squared norms of this process's rows, [tensors], into those of
            the whole tensors. None: the tensors are whole.
    """

    add_up: AddUp | None = None

    @abstractmethod
    def blank_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """The initial state of a parameter."""

    @abstractmethod
    def _update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        """Update `params`: the parameters of `group` that have a gradient."""

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient; return the result of `closure`."""
        loss = evaluate(closure)
        for group, params, grads in _groups_with_gradients(self):
            for parameter in params:
                if not self.state[parameter]:
                    self.state[parameter].update(self.blank_state(parameter))
            self._update(group, params, grads)
        return loss

    def _states(self, params: list[Tensor], *keys: str) -> list[list[Tensor]]:
        """For each key, the state of every parameter."""
        return [[self.state[parameter][key] for parameter in params] for key in keys]


class NovoGrad(LayerwiseOptimizer):
    """Adam with one second moment per tensor (Ginsburg et al. 2019, arXiv 1905.11286, algorithm 1).

    v = beta2 v + (1 - beta2) |g|^2, initially |g|^2;  m = beta1 m + g / (sqrt(v) + eps) + decay w;
    w -= lr m. Its state is half the size of Adam's.

    Args:
        params: parameters or groups of them.
        luc: layer-wise update clipping: w -= min(lr, luc_eta |w| / |m|) m.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.25),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        luc: bool = False,
        luc_eta: float = 1e-3,
    ):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.luc, self.luc_eta = luc, luc_eta

    def blank_state(self, parameter: Tensor) -> dict[str, Tensor]:
        return {
            "exp_avg": torch.zeros_like(parameter),
            "grad_norm_sq": torch.zeros((), device=parameter.device),
        }

    def _update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        m, norms_sq = self._states(params, "exp_avg", "grad_norm_sq")

        latest = _norms(grads, self.add_up).square()
        v = torch.stack(norms_sq)
        v = torch.where(v == 0, latest, beta2 * v + (1 - beta2) * latest)
        torch._foreach_copy_(norms_sq, v.unbind())

        torch._foreach_mul_(m, beta1)
        torch._foreach_addcdiv_(m, grads, (v.sqrt() + group["eps"]).unbind())
        if group["weight_decay"]:
            torch._foreach_add_(m, params, alpha=group["weight_decay"])

        if self.luc:
            lengths, momenta = _norms([*params, *m], self.add_up).chunk(2)
            reach = self.luc_eta * lengths / (momenta + group["eps"])
            torch._foreach_addcmul_(params, m, reach.clamp(max=group["lr"]).unbind(), -1)
        else:
            torch._foreach_add_(params, m, alpha=-group["lr"])


class LAMB(LayerwiseOptimizer):
    """Adam with updates of norm lr |w| (You et al. 2019, arXiv 1904.00962, algorithm 2).

    u = m / (sqrt(v) + eps) + decay w, with bias-corrected moments;
    w -= lr (|w| / |u|) u, where the ratio is 1 if a norm is 0.

    NVIDIA's LAMB first divides the gradient by its norm over all tensors. This one does not; use
    `grad_norm_clip` to bound it.

    Args:
        params: parameters or groups of them.
        trust_ratio: False makes the ratio 1, as the authors do for BERT's biases and LayerNorms.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        trust_ratio: bool = True,
    ):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super().__init__(params, defaults | {"trust_ratio": trust_ratio})

    def blank_state(self, parameter: Tensor) -> dict[str, Tensor]:
        return adam_state(parameter, fused=can_fuse([parameter]))

    def _update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        steps, m, v = self._states(params, "step", "exp_avg", "exp_avg_sq")

        # Adam's own kernel, with rate 1 and starting from 0, gives -u in one pass over memory.
        updates = [torch.zeros_like(parameter) for parameter in params]
        adam(
            updates,
            grads,
            m,
            v,
            [],
            steps,
            fused=can_fuse(params),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=1.0,
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=-group["weight_decay"])

        if group["trust_ratio"]:
            lengths, reaches = _norms([*params, *updates], self.add_up).chunk(2)
            ratios = _ratio_or_one(lengths, reaches)
            torch._foreach_addcmul_(params, updates, ratios.unbind(), group["lr"])
        else:
            torch._foreach_add_(params, updates, alpha=group["lr"])


def add_larc(sgd: SGD, eta: float) -> None:
    """Give each tensor the rate min(lr, eta |w| / (|g| + decay |w|)) (You et al. 2017, arXiv 1708.03888)."""
    for group in sgd.param_groups:
        # The decay must be added to the gradient before scaling, so SGD itself must not add it.
        group["larc_decay"], group["weight_decay"] = group["weight_decay"], 0.0

    @torch.no_grad()
    def scale_gradients(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group, params, grads in _groups_with_gradients(optimizer):
            decay, add_up = group["larc_decay"], getattr(optimizer, "add_up", None)
            lengths, slopes = _norms([*params, *grads], add_up).chunk(2)
            ratios = _ratio_or_one(lengths, slopes + decay * lengths)
            shares = (eta * ratios / group["lr"]).clamp(max=1)
            torch._foreach_add_(grads, params, alpha=decay)
            torch._foreach_mul_(grads, shares.unbind())

    sgd.register_step_pre_hook(scale_gradients)


def adam_state(parameter: Tensor, fused: bool) -> dict[str, Tensor]:
    """Adam's initial state; the step is on the CPU unless a fused kernel reads it."""
    return {
        "step": torch.zeros((), device=parameter.device if fused else "cpu"),
        "exp_avg": torch.zeros_like(parameter),
        "exp_avg_sq": torch.zeros_like(parameter),
    }


def can_fuse(parameters: Iterable[Tensor]) -> bool:
    """Whether torch has a fused kernel for these parameters."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


def evaluate(closure: Closure | None) -> float | None:
    """Return the result of `closure`, which computes the loss and its gradients."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _groups_with_gradients(
    optimizer: Optimizer,
) -> Iterator[tuple[Group, list[Tensor], list[Tensor]]]:
    """Each group with its parameters that have a gradient, and these gradients."""
    for group in optimizer.param_groups:
        params = [parameter for parameter in group["params"] if parameter.grad is not None]
        if params:
            yield group, params, [parameter.grad for parameter in params]


def _norms(tensors: list[Tensor], add_up: AddUp | None) -> Tensor:
    """|x| of each tensor, [len(tensors)] fp32; `add_up` as in `LayerwiseOptimizer`."""
    norms = torch.stack(torch._foreach_norm(tensors, dtype=torch.float32))
    return norms if add_up is None else add_up(norms.square()).sqrt()


def _ratio_or_one(lengths: Tensor, others: Tensor) -> Tensor:
    """lengths / others, or 1 where either is 0."""
    return torch.where((lengths > 0) & (others > 0), lengths / others, 1.0)
