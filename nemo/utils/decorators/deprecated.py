"""Marking functions as deprecated."""

import functools
from collections.abc import Callable
from typing import Any

from nemo.utils.logging import logging


def deprecated(
    wrapped: Callable[..., Any] | None = None,
    version: str | float | None = None,
    explanation: str | None = None,
) -> Any:
    """Mark a function as deprecated: its first call logs a warning.

    Use it as `@deprecated`, or with arguments: `@deprecated(version="2.0")`.

    Args:
        wrapped: the function, in the form without arguments.
        version: version in which the function will be removed.
        explanation: what to do instead, as a sentence.
    """
    if wrapped is None:
        return functools.partial(deprecated, version=version, explanation=explanation)
    sentences = [f"Function ``{wrapped.__name__}`` is deprecated."]
    if version is not None:
        sentences.append(f"It is going to be removed in the {version} version.")
    if explanation is not None:
        sentences.append(explanation)
    has_warned = False

    @functools.wraps(wrapped)
    def with_warning(*args: Any, **kwargs: Any) -> Any:
        nonlocal has_warned
        if not has_warned:
            has_warned = True
            logging.warning(" ".join(sentences))
        return wrapped(*args, **kwargs)

    return with_warning
