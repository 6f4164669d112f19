"""All-reduce of gradients, overlapped with the backward pass."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nemo.backends.pytorch.distributed.world import World
from nemo.utils.errors import DistributedError

BYTES_OF_BUCKET = 25 << 20
"""As in torch's DistributedDataParallel: large enough for the network, small enough to start early."""


class GradientSum:
    """Sums the gradients of `parameters` over all processes, once per step.

    Gradients are sent in buckets, in reverse order of the parameters, as the last layers' gradients are ready
    first. A bucket is sent when all of its gradients are ready. All processes send the same buckets in the
    same order. The first step determines which parameters have gradients, so it sends everything at its end.

    Args:
        parameters: a graph's parameters, in the same order in all processes.
        dtype: type in which gradients are sent; None for their own.

    Attributes:
        num_bytes, num_messages: what was sent in the latest step; for measurements and tests.
    """

    def __init__(self, world: World, parameters: Iterable[nn.Parameter], dtype: torch.dtype | None = None):
        self.num_bytes = self.num_messages = 0
        self._world, self._parameters, self._dtype = world, list(dict.fromkeys(parameters)), dtype
        self._trained: tuple[bool, ...] = ()
        self._buckets: list[_Bucket] = []
        self._bucket_of: dict[nn.Parameter, _Bucket] = {}
        self._may_leave = False

    def __enter__(self) -> "GradientSum":
        """Enter before the backward passes of a step; on exit, all gradients are sums."""
        self.num_bytes = self.num_messages = 0
        for bucket in self._buckets:
            bucket.begin()
        return self

    def enable_sync(self) -> None:
        """Call before the last backward pass: its gradients are sent as soon as they are ready."""
        # Only if the buckets match: parameters may be frozen or unfrozen during training.
        self._may_leave = self._trained == self._which_are_trained()

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: Any) -> None:
        self._may_leave = False
        if problem is not None:
            return
        if self._trained != self._which_are_trained():
            self._plan()
            self._trained = self._which_are_trained()
        self._finish()

    def _which_are_trained(self) -> tuple[bool, ...]:
        return tuple(parameter.requires_grad for parameter in self._parameters)

    def _plan(self) -> None:
        """Put all parameters that have a gradient in any process into buckets."""
        has_gradient = torch.tensor([parameter.grad is not None for parameter in self._parameters]).int()
        self._world.all_reduce(has_gradient, "who has which gradients")
        used = [p for p, count in zip(self._parameters, has_gradient.tolist(), strict=True) if count]
        for bucket in self._buckets:
            bucket.forget()
        self._buckets = []
        for parameter in reversed(used):
            last = self._buckets[-1] if self._buckets else None
            if last is None or not last.has_room_for(parameter):
                self._buckets.append(last := _Bucket())
            last.parameters.append(parameter)
            last.hooks.append(parameter.register_post_accumulate_grad_hook(self._is_ready))
        self._bucket_of = {p: bucket for bucket in self._buckets for p in bucket.parameters}

    def _is_ready(self, parameter: nn.Parameter) -> None:
        if not self._may_leave:
            return
        self._bucket_of[parameter].num_ready += 1
        for bucket in self._buckets:  # in order, as all processes must send the same sequence
            if bucket.is_sent:
                continue
            if bucket.num_ready < len(bucket.parameters):
                break
            self._send(bucket)

    def _send(self, bucket: "_Bucket") -> None:
        message = bucket.send(self._dtype)
        self.num_bytes += message.nbytes
        self.num_messages += 1

    def _finish(self) -> None:
        """Send the remaining buckets, and receive all sums."""
        strangers = [p for p in self._parameters if p.grad is not None and p not in self._bucket_of]
        if strangers:
            raise DistributedError(
                "a weight first received a gradient after the first step",
                where=f"rank {self._world.rank}",
                found=f"a weight of shape {tuple(strangers[0].shape)}",
                fix="let every step use the same modules, or train with one process",
            )
        for bucket in self._buckets:
            if not bucket.is_sent:
                self._send(bucket)
        with self._world.waiting("gradients"):
            for bucket in self._buckets:
                bucket.receive()


@dataclass
class _Bucket:
    """Parameters whose gradients are sent in one message."""

    parameters: list[nn.Parameter] = field(default_factory=list)
    hooks: list[Any] = field(default_factory=list)
    num_ready: int = 0
    is_sent: bool = False

    def has_room_for(self, parameter: nn.Parameter) -> bool:
        first = self.parameters[0]
        size = sum(p.numel() for p in self.parameters) + parameter.numel()
        is_alike = (first.dtype, first.device) == (parameter.dtype, parameter.device)
        return is_alike and size * parameter.element_size() <= BYTES_OF_BUCKET

    def begin(self) -> None:
        self.num_ready, self.is_sent = 0, False

    def forget(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def send(self, dtype: torch.dtype | None) -> Tensor:
        """Start sending the gradients; a missing one counts as zeros."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        dtype = dtype or gradients[0].dtype
        if len(gradients) == 1 and gradients[0].dtype == dtype and gradients[0].is_contiguous():
            self._message = gradients[0].flatten()  # avoids a copy of the largest gradients
        else:
            self._message = torch.cat([gradient.flatten().to(dtype) for gradient in gradients])
        self._work = dist.all_reduce(self._message, async_op=True)
        self.is_sent = True
        return self._message

    def receive(self) -> None:
        """Wait for the sums, and store them as the gradients."""
        self._work.wait()
        parts = self._message.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        del self._message, self._work
