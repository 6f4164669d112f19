"""Documenting port properties."""

import functools
from collections.abc import Callable
from typing import Any


def add_port_docs(wrapped: Callable[..., Any] | None = None, value: str = "") -> Any:
    """Extend the docstring of a port property; the ports do not change.

    Use it below `@property`, as `@add_port_docs` or with arguments: `@add_port_docs()`.

    Args:
        wrapped: the function that returns the ports, in the form without arguments.
        value: text to append.
    """
    if wrapped is None:
        return functools.partial(add_port_docs, value=value)
    paragraphs = (wrapped.__doc__, "Maps the name of each port to its NeuralType.", value)
    wrapped.__doc__ = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return wrapped
