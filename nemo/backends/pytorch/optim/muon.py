"""Muon: SGD with orthogonalized momentum.

Shapes: N matrices of one shape, R rows, C columns.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from nemo.backends.pytorch.ops.hardware import has_bf16_units
from nemo.backends.pytorch.optim.layer_wise import Group, LayerwiseOptimizer


class Muon(LayerwiseOptimizer):
    """An optimizer for hidden matrices (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    m = momentum m + (1 - momentum) g; the Nesterov step is orthogonalized, and
    w -= lr (0.2 sqrt(max(R, C)) step + decay w). The factor makes updates as large as AdamW's, so that
    AdamW's learning rate and decay apply (Liu et al. 2025, arXiv 2502.16982).

    torch.optim.Muon does the same, but one matrix at a time and always in bf16, which is many times slower
    on a CPU without bf16 units; here such a CPU uses float32.

    Args:
        params: matrices or groups of them.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))

    def blank_state(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": torch.zeros_like(parameter)}

    def _update(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        momentum = group["momentum"]
        (m,) = self._states(params, "momentum_buffer")
        torch._foreach_lerp_(m, grads, 1 - momentum)
        steps = torch._foreach_lerp(grads, m, momentum)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])

        for shape in dict.fromkeys(step.shape for step in steps):
            alike = [i for i, step in enumerate(steps) if step.shape == shape]
            updates = orthogonal(torch.stack([steps[i] for i in alike]))
            size = 0.2 * max(shape) ** 0.5
            for i, update in zip(alike, updates, strict=True):
                params[i].add_(update, alpha=-group["lr"] * size)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Move all singular values of the matrices, [N, R, C], near 1 by Newton-Schulz iteration.

    The coefficients of the quintic are Jordan's, which raise small singular values fast. They leave large
    ones between 0.7 and 1.2, so bf16 is precise enough at every level; it is used where it is faster.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if has_bf16_units(matrices.device) else matrices.float()
    is_tall = x.size(1) > x.size(2)
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
