"""Optimizers that import torch's compiler only when something is compiled."""

import sys
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

_KEPT_FROM_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def import_compiler_late() -> None:
    """Keep the first optimizer from importing `torch._dynamo`.

    torch does so to keep these methods from being compiled, and it takes nearly as long as importing torch.
    Without the compiler there is nothing to keep them from; once it is there, torch does what it always does.
    """
    for name in _KEPT_FROM_COMPILER:
        method = getattr(Optimizer, name)
        plain = getattr(method, "__wrapped__", None)  # what `torch._disable_dynamo` has wrapped
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            plain.__dynamo_disable = _until_it_is_there(plain, method)


def _until_it_is_there(plain: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return plain(*args, **kwargs)
        vars(plain).pop("__dynamo_disable", None)
        return method(*args, **kwargs)

    return call
