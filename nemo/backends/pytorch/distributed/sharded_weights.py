"""Models too large for one device: each process holds some rows of every weight, gradient and moment.

torch's `fully_shard` (FSDP2; Rajbhandari et al. 2020, arXiv 1910.02054, Zhao et al. 2023, arXiv 2304.11277)
gathers weights while they are used and reduce-scatters gradients. This module hides that from graphs,
optimizers and checkpoints.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._composable.contract import REGISTRY_KEY, STATE_KEY
from torch.distributed._composable_state import _module_state_mapping
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import SGD, Adam, Optimizer

from nemo.backends.pytorch.distributed.world import Tensors, World
from nemo.backends.pytorch.optim.layer_wise import LAMB, NovoGrad
from nemo.utils.errors import UsageError

T = TypeVar("T")


class ShardedWeights:
    """The weights of a graph's modules, sharded across all processes until `put_together`.

    Meanwhile the modules hold DTensors, and whole weights while `run` computes. Optimizers see neither: they
    update ordinary tensors with this process's rows. The modules' original Parameters are empty; afterwards,
    the same objects hold the weights again.

    Use it as a context manager around the backward passes of a step, like `GradientSum`.

    Args:
        modules: modules with the same weights in all processes, on any device that can hold all of them.
        device: device of the shards and of the computation.
        gradient_dtype: type in which gradients are sent; None for their own.

    Attributes:
        num_bytes, num_messages: gradients sent in the latest step; for measurements and tests.

    Raises:
        UsageError: a scalar weight, which has no rows.
    """

    def __init__(
        self,
        modules: nn.ModuleDict,
        device: torch.device,
        world: World,
        gradient_dtype: torch.dtype | None = None,
    ):
        scalars = [name for name, parameter in modules.named_parameters() if parameter.ndim == 0]
        if scalars:
            raise UsageError(
                "a scalar weight cannot be sharded",
                where=scalars[0],
                fix="give it the shape (1,), or train without shard",
            )
        self.num_bytes = self.num_messages = 0
        self._world = world
        self._owners = [
            (m, name, p)
            for m in modules.modules()
            for name, p in m.named_parameters(recurse=False, remove_duplicate=False)
        ]
        self._root: Any = _Root(modules)  # fully_shard adds methods that the type does not have
        mesh = init_device_mesh(device.type, (world.size,))
        policy = MixedPrecisionPolicy(reduce_dtype=gradient_dtype)
        for group in (*_regions_apart(modules), self._root):
            whole = [p for p in group.parameters() if not isinstance(p, DTensor)]
            fully_shard(group, mesh=mesh, mp_policy=policy, reshard_after_forward=group is not self._root)
            for parameter in whole:
                parameter.data = parameter.new_empty([0] * parameter.ndim)
        for module in self._sharded_modules():
            module.set_gradient_divide_factor(1.0)  # our losses are divided by the items of all processes
            module.set_force_sum_reduction_for_comms(True)  # the only one that gloo supports
            module.set_custom_all_gather(_Gather(world))
            module.set_custom_reduce_scatter(_SumUp(world, self._count))
        named: dict[str, Any] = dict(modules.named_parameters(remove_duplicate=False))
        self._sharded: dict[str, DTensor] = named
        self._sharded_of: dict[nn.Parameter, DTensor] = {p: getattr(m, n) for m, n, p in self._owners}
        self._own = {p: nn.Parameter(p.to_local().detach()) for p in self._sharded_of.values()}
        self._rows_of = {parameter: self._own[p] for parameter, p in self._sharded_of.items()}
        self._show_which_are_trained()

    def adopt(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Make an optimizer of the modules' original `parameters` update this process's rows of them.

        Returns:
            These rows, under the same names.

        Raises:
            UsageError: the optimizer needs whole weights.
        """
        if not isinstance(optimizer, Adam | SGD | NovoGrad | LAMB) or optimizer.state:
            raise UsageError(
                "this optimizer cannot update sharded weights",
                where="shard",
                found=f"{type(optimizer).__name__}{' after its first step' if optimizer.state else ''}",
                expected="adam_w, adam, sgd, novograd or lamb",
            )
        for group in optimizer.param_groups:
            group["params"] = [self._rows_of.get(p, p) for p in group["params"]]
        optimizer.add_up = self.add_up  # type: ignore[union-attr]  # used by optimizers that need norms
        return {name: self._rows_of[p] for name, p in parameters.items()}

    def add_up(self, squares: Tensor) -> Tensor:
        """Sum squared norms of this process's rows to those of whole tensors."""
        return self._world.all_reduce(squares, "norms")

    def run(self, compute: Callable[[], T]) -> T:
        """Return `compute()`, run with whole weights in the modules. All processes must run the same."""
        result = self._root(compute)
        if not torch.is_grad_enabled():
            self._root.reshard()  # no backward pass will do it
        return result

    def __enter__(self) -> "ShardedWeights":
        self.num_bytes = self.num_messages = 0
        self._root.set_requires_gradient_sync(False)
        for own in self._own.values():
            own.grad = None  # free the last step's gradient before there is a new one
        return self

    def enable_sync(self) -> None:
        """Call before the last backward pass: its gradients are sent as soon as they are ready."""
        self._root.set_requires_gradient_sync(True)

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: Any) -> None:
        self._show_which_are_trained()
        for sharded, own in self._own.items():
            gradient: Any = sharded.grad
            own.grad = None if gradient is None else gradient.to_local()

    def whole(self, tensors: Tensors) -> Tensors:
        """Gather whole tensors in rank 0: weights by module and name, optimizer states as `<weight>.<key>`.

        All processes must call it; the others get nothing.
        """
        return {
            group: {
                name: whole for name, t in named.items() if (whole := self._gathered(name, t)) is not None
            }
            for group, named in tensors.items()
        }

    def rows(self, tensors: Tensors) -> Tensors:
        """This process's rows of whole tensors: weights as DTensors, states as ordinary tensors."""
        return {
            group: {name: self._rows(group, name, tensor) for name, tensor in named.items()}
            for group, named in tensors.items()
        }

    def put_together(self) -> None:
        """Give the modules their original Parameters back, with whole weights, on the CPU."""
        for module in self._sharded_modules():
            _make_ordinary(module)
        for parameter, sharded in self._sharded_of.items():
            parameter.data = self._full(sharded).cpu()
            parameter.requires_grad_(sharded.requires_grad)
        for module, name, parameter in self._owners:
            setattr(module, name, parameter)

    def _sharded_modules(self) -> list[Any]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]

    def _show_which_are_trained(self) -> None:
        """Copy `requires_grad`, as weights may be frozen or unfrozen during training."""
        for sharded, own in self._own.items():
            own.requires_grad_(sharded.requires_grad)

    def _count(self, message: Tensor) -> None:
        self.num_bytes += message.nbytes
        self.num_messages += 1

    def _gathered(self, name: str, tensor: Tensor) -> Tensor | None:
        """The whole tensor in rank 0, None elsewhere."""
        sharded = self._sharded.get(name.rpartition(".")[0])
        if sharded is not None and tensor.ndim > 0 and tensor.shape == self._own[sharded].shape:
            tensor = _like(sharded, tensor)
        if isinstance(tensor, DTensor):
            tensor = self._full(tensor)
        return tensor.cpu() if self._world.rank == 0 else None

    def _rows(self, group: str, name: str, whole: Tensor) -> Tensor:
        weight = self._sharded.get(f"{group}.{name}")
        if weight is not None:
            return _distributed(whole, weight)
        weight = self._sharded.get(name.rpartition(".")[0])
        if weight is None or whole.ndim == 0 or whole.shape != weight.shape:
            return whole
        return _distributed(whole, weight).to_local()

    def _full(self, tensor: DTensor) -> Tensor:
        with self._world.waiting("whole weights"), torch.no_grad():
            return tensor.full_tensor()


class _Root(nn.Module):
    """All sharded weights, and the modules that compute with them.

    Weights outside of all regions stay whole during a pass, as losses and tied layers read weights of modules
    that are not running.
    """

    def __init__(self, modules: nn.ModuleDict):
        super().__init__()
        self.neural_modules = modules

    def forward(self, compute: Callable[[], T]) -> T:
        return compute()


def _regions_apart(modules: nn.ModuleDict) -> list[nn.Module]:
    """The regions to shard separately: those that share no weights with others."""
    uses = _uses_of_weights(modules)
    regions = dict.fromkeys(
        region for module in modules.values() for region in getattr(module, "regions", ())
    )
    return [region for region in regions if _uses_of_weights(region).items() <= uses.items()]


def _uses_of_weights(module: nn.Module) -> Counter[nn.Parameter]:
    return Counter(parameter for m in module.modules() for parameter in m.parameters(recurse=False))


def _like(weight: DTensor, rows: Tensor) -> DTensor:
    """A DTensor made of this process's rows, with the layout of `weight`."""
    return DTensor.from_local(
        rows, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride()
    )


def _distributed(whole: Tensor, weight: DTensor) -> DTensor:
    """`whole`, which all processes have, sharded like `weight`."""
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _make_ordinary(module: Any) -> None:
    """Undo `fully_shard`, except for the weights; torch has no function for this."""
    state = module._get_fsdp_state()
    handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
    for group in state._fsdp_param_groups:
        handles += group._module_to_pre_save_state_dict_hook_handle.values()
        handles += group._module_to_pre_load_state_dict_hook_handle.values()
        handles += [parameter._post_load_hook_handle for parameter in group.fsdp_params]
    for handle in handles:
        handle.remove()
    module.__class__ = type(module).__mro__[2]  # after its FSDP class and FSDPModule
    _module_state_mapping.pop(module)
    del vars(module)[STATE_KEY], vars(module)[REGISTRY_KEY]
    for inner in module.modules():
        for mark in ("_is_fsdp_managed_module", "_fsdp_use_orig_params"):  # torch.compile reads them
            vars(inner).pop(mark, None)


class _Message:
    """A collective of `fully_shard`, whose errors name their cause."""

    def __init__(self, world: World, count: Callable[[Tensor], None] = lambda message: None):
        self._world, self._count = world, count

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)


class _Gather(_Message):
    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, async_op: bool = False
    ) -> Any:
        with self._world.waiting("weights"):
            return dist.all_gather_single(output_tensor, input_tensor, group, async_op)


class _SumUp(_Message):
    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False
    ) -> Any:
        self._count(input_tensor)
        with self._world.waiting("gradients"):
            return dist.reduce_scatter_single(output_tensor, input_tensor, op, group, async_op)
