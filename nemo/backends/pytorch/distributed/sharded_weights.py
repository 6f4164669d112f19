"""Models too large for one device: every process holds some rows of every weight, gradient and moment.

torch's `fully_shard` (FSDP2; Rajbhandari et al. 2020, arXiv 1910.02054, Zhao et al. 2023, arXiv 2304.11277)
gathers weights for the time that they are used and sums up gradients into shares. Here is what it takes for
graphs, our optimizers and our checkpoints do not notice it.
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


class Shards:
    """The weights of a graph's parts, shared out among all processes until `put_together`.

    Modules hold DTensors meanwhile, and whole weights while `run` computes. Optimizers know neither: they
    update ordinary tensors that are this process's rows. The Parameters that modules had are empty, and are
    the same objects again afterwards.

    As a context manager it is around the backward passes of a step, like `GradientSum`.

    Args:
        parts: with the same weights in all processes, on any device; whole weights must fit in the memory
            there.
        device: where shares are, and where passes are run.
        gradient_dtype: what gradients travel as; None: as they are.

    Attributes:
        num_bytes: of gradients sent in the latest step.
        num_messages: in which these were.

    Raises:
        UsageError: a weight without axes, which has no rows to share out.
    """

    def __init__(
        self,
        parts: nn.ModuleDict,
        device: torch.device,
        world: World,
        gradient_dtype: torch.dtype | None = None,
    ):
        scalars = [name for name, parameter in parts.named_parameters() if parameter.ndim == 0]
        if scalars:
            raise UsageError(
                "a scalar weight cannot be sharded",
                where=scalars[0],
                fix="give it the shape (1,), or train without shard",
            )
        self.num_bytes = self.num_messages = 0
        self._world = world
        self._places = [
            (m, name, p)
            for m in parts.modules()
            for name, p in m.named_parameters(recurse=False, remove_duplicate=False)
        ]
        self._root: Any = _Root(parts)  # fully_shard gives it methods that no type knows
        mesh = init_device_mesh(device.type, (world.size,))
        policy = MixedPrecisionPolicy(reduce_dtype=gradient_dtype)
        for group in (*_regions_apart(parts), self._root):
            whole = [p for p in group.parameters() if not isinstance(p, DTensor)]
            fully_shard(group, mesh=mesh, mp_policy=policy, reshard_after_forward=group is not self._root)
            for parameter in whole:
                parameter.data = parameter.new_empty([0] * parameter.ndim)
        for module in self._sharded_modules():
            module.set_gradient_divide_factor(1.0)  # our losses are divided by what all processes have
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
            module.set_custom_all_gather(_Gather(world))
            module.set_custom_reduce_scatter(_SumUp(world, self._count))
        named: dict[str, Any] = dict(parts.named_parameters(remove_duplicate=False))
        self._sharded: dict[str, DTensor] = named
        self._sharded_of: dict[nn.Parameter, DTensor] = {p: getattr(m, n) for m, n, p in self._places}
        self._own = {p: nn.Parameter(p.to_local().detach()) for p in self._sharded_of.values()}
        self._rows_of = {parameter: self._own[p] for parameter, p in self._sharded_of.items()}
        self._show_which_are_trained()

    def adopt(self, optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
        """Let an optimizer of `parameters`, which modules had, update this process's rows of them.

        Returns:
            These rows, under the same names.

        Raises:
            UsageError: it needs to see whole weights.
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
        optimizer.add_up = self.add_up  # type: ignore[union-attr]  # those that look at norms ask for it
        return {name: self._rows_of[p] for name, p in parameters.items()}

    def add_up(self, squares: Tensor) -> Tensor:
        """Squares of norms of this process's rows become those of whole tensors."""
        return self._world.all_reduce(squares, "norms")

    def run(self, compute: Callable[[], T]) -> T:
        """What `compute` gives, with whole weights in the modules. All processes must run the same."""
        result = self._root(compute)
        if not torch.is_grad_enabled():
            self._root.reshard()  # no backward pass will do it
        return result

    def __enter__(self) -> "Shards":
        self.num_bytes = self.num_messages = 0
        self._root.set_requires_gradient_sync(False)
        for own in self._own.values():
            own.grad = None  # that of the last step, which would take memory beside the new one
        return self

    def enable_sync(self) -> None:
        """The next backward pass is the last one: send gradients as soon as they are ready."""
        self._root.set_requires_gradient_sync(True)

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: Any) -> None:
        self._show_which_are_trained()
        for sharded, own in self._own.items():
            gradient: Any = sharded.grad
            own.grad = None if gradient is None else gradient.to_local()

    def whole(self, tensors: Tensors) -> Tensors:
        """Weights by part and name, and optimizers' states as `<weight>.<key>`, gathered in process 0.

        The other processes, which must call it too, get nothing.
        """
        return {
            group: {
                name: whole for name, t in named.items() if (whole := self._gathered(name, t)) is not None
            }
            for group, named in tensors.items()
        }

    def rows(self, tensors: Tensors) -> Tensors:
        """This process's rows of what `whole` gathered: weights as DTensors, states as ordinary tensors."""
        return {
            group: {name: self._rows(group, name, tensor) for name, tensor in named.items()}
            for group, named in tensors.items()
        }

    def put_together(self) -> None:
        """Give the modules the Parameters back that they had, whole and on the CPU."""
        for module in self._sharded_modules():
            _make_ordinary(module)
        for parameter, sharded in self._sharded_of.items():
            parameter.data = self._full(sharded).cpu()
            parameter.requires_grad_(sharded.requires_grad)
        for module, name, parameter in self._places:
            setattr(module, name, parameter)

    def _sharded_modules(self) -> list[Any]:
        return [module for module in self._root.modules() if isinstance(module, FSDPModule)]

    def _show_which_are_trained(self) -> None:
        """Weights may be frozen and unfrozen on the way."""
        for sharded, own in self._own.items():
            own.requires_grad_(sharded.requires_grad)

    def _count(self, message: Tensor) -> None:
        self.num_bytes += message.nbytes
        self.num_messages += 1

    def _gathered(self, name: str, tensor: Tensor) -> Tensor | None:
        """All of a tensor in process 0, None elsewhere."""
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

    What is not in a region is whole for all of a pass: losses and tied layers read weights of modules that
    are not running.
    """

    def __init__(self, parts: nn.ModuleDict):
        super().__init__()
        self.parts = parts

    def forward(self, compute: Callable[[], T]) -> T:
        return compute()


def _regions_apart(parts: nn.ModuleDict) -> list[nn.Module]:
    """Regions sharded separately: those with weights that no other region has."""
    places = _places_of_weights(parts)
    regions = dict.fromkeys(region for part in parts.values() for region in getattr(part, "regions", ()))
    return [region for region in regions if _places_of_weights(region).items() <= places.items()]


def _places_of_weights(module: nn.Module) -> Counter[nn.Parameter]:
    return Counter(parameter for m in module.modules() for parameter in m.parameters(recurse=False))


def _like(weight: DTensor, rows: Tensor) -> DTensor:
    """A DTensor of this process's rows, as a weight is one."""
    return DTensor.from_local(
        rows, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride()
    )


def _distributed(whole: Tensor, weight: DTensor) -> DTensor:
    """`whole`, which all processes have, shared out as a weight is."""
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)


def _make_ordinary(module: Any) -> None:
    """Undo `fully_shard` but for the weights; torch has no call for it."""
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
        for mark in ("_is_fsdp_managed_module", "_fsdp_use_orig_params"):  # torch.compile heeds them
            vars(inner).pop(mark, None)


class _Message:
    """What `fully_shard` sends; an error on the way is explained."""

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
