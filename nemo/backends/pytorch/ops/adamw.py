"""AdamW on all parameters at once, the norm of their gradient, and rounding to bf16.

Loshchilov and Hutter 2019 (arXiv 1711.05101). Each operation reads every number once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from nemo.backends.pytorch.ops import native


def adamw_(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    clip: float = 1.0,
) -> None:
    """Update `parameters` and their moments, in place.

    w <- (1 - lr decay) w - lr m' / (sqrt(v') + eps), with the bias-corrected moments m' and v'.

    Args:
        gradients: each float32 or bfloat16.
        steps: the number of this step for each parameter, from 1.
        clip: factor for the gradients.
    """
    tensors = (parameters, gradients, exp_avgs, exp_avg_sqs)
    if not parameters:
        return
    if not _usable(gradients, *parameters, *exp_avgs, *exp_avg_sqs):
        adamw_reference_(*tensors, steps, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, clip=clip)
        return
    sizes = torch.tensor([parameter.numel() for parameter in parameters])
    numbers = (lr, *betas, eps, weight_decay, clip)
    native.call(
        "adamw",
        torch.float32,
        _addresses(parameters),
        *_addresses_and_types(gradients),
        _addresses(exp_avgs),
        _addresses(exp_avg_sqs),
        sizes,
        torch.tensor(steps),
        len(parameters),
        *map(float, numbers),
    )
    for group in (parameters, exp_avgs, exp_avg_sqs):
        torch.autograd.graph.increment_version(group)


def adamw_reference_(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[int],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    clip: float = 1.0,
) -> None:
    """`adamw_` in plain torch: its reference, and its fallback without the kernel."""
    gradients = [gradient.to(p.dtype) for gradient, p in zip(gradients, parameters, strict=True)]
    adam(
        list(parameters),
        gradients if clip == 1.0 else list(torch._foreach_mul(gradients, clip)),
        list(exp_avgs),
        list(exp_avg_sqs),
        [],
        [torch.tensor(float(step - 1)) for step in steps],
        fused=True,
        amsgrad=False,
        beta1=betas[0],
        beta2=betas[1],
        lr=lr,
        weight_decay=weight_decay,
        eps=eps,
        maximize=False,
        decoupled_weight_decay=True,
    )


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all elements of all tensors, a scalar tensor; 0 for an empty list."""
    if not tensors or not _usable(tensors):
        return norm_of_reference(tensors)
    norm = torch.empty(())
    sizes = torch.tensor([tensor.numel() for tensor in tensors])
    native.call("norm", torch.float32, *_addresses_and_types(tensors), sizes, len(tensors), norm)
    return norm


def norm_of_reference(tensors: Sequence[Tensor]) -> Tensor:
    """`norm_of` in plain torch: its reference, and its fallback without the kernel."""
    wide = [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]
    return nn.utils.get_total_norm(wide)


def rounded(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The float32 tensors rounded to bfloat16."""
    if not tensors or not _usable((), *tensors):
        return rounded_reference(tensors)
    copies = [torch.empty_like(tensor, dtype=torch.bfloat16) for tensor in tensors]
    sizes = torch.tensor([tensor.numel() for tensor in tensors])
    native.call("round_all", torch.float32, _addresses(tensors), _addresses(copies), sizes, len(tensors))
    return copies


def rounded_reference(tensors: Sequence[Tensor]) -> list[Tensor]:
    """`rounded` in plain torch: its reference, and its fallback without the kernel."""
    copies = [torch.empty_like(tensor, dtype=torch.bfloat16) for tensor in tensors]
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies


def _usable(of_either_type: Sequence[Tensor], *tensors: Tensor) -> bool:
    """Whether the kernels can take these: `of_either_type` float32 or bf16, the others float32."""
    return (
        all(tensor.dtype == torch.float32 for tensor in tensors)
        and all(tensor.dtype in native.SUFFIXES for tensor in of_either_type)
        and all(t.layout == torch.strided and t.is_contiguous() for t in (*of_either_type, *tensors))
        and all(native.usable(tensor) for tensor in of_either_type)
        and (not tensors or native.usable(*tensors))
    )


def _addresses(tensors: Sequence[Tensor]) -> Tensor:
    return torch.tensor([tensor.data_ptr() for tensor in tensors])


def _addresses_and_types(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return _addresses(tensors), torch.tensor([int(tensor.dtype == torch.bfloat16) for tensor in tensors])
