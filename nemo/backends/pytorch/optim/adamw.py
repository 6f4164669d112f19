"""AdamW in one pass over all parameters, clipping included."""

from typing import Any

import torch

from nemo.backends.pytorch.ops.adamw import adamw_
from nemo.backends.pytorch.optim.layer_wise import Closure, adam_state, evaluate


class OnePassAdamW(torch.optim.AdamW):
    """torch's AdamW, with the same arguments and state, computed by `ops.adamw`.

    Attributes:
        gradient_scale: factor for the gradients of the next step only; clips them without an extra pass.
        takes_low_gradients: gradients of float32 parameters may be bf16.
    """

    gradient_scale = 1.0
    takes_low_gradients = True

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = evaluate(closure)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter].update(adam_state(parameter, fused=True))
            states: list[dict[str, Any]] = [self.state[parameter] for parameter in parameters]
            steps = [state["step"] for state in states]
            if steps:
                torch._foreach_add_(steps, 1)
            adamw_(
                parameters,
                [p.grad for p in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [int(step) for step in torch.stack(steps).tolist()] if steps else [],
                lr=float(group["lr"]),
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                clip=self.gradient_scale,
            )
        self.gradient_scale = 1.0
        return loss
