"""Ports in the documentation of the property that holds them."""

import functools
from collections.abc import Callable
from typing import Any


def add_port_docs(wrapped: Callable[..., Any] | None = None, value: str = "") -> Any:
    """Say in the docstring of a port property what it maps; the ports stay what they are.

    Goes below `@property`, with or without arguments: `@add_port_docs()`.

    Args:
        wrapped: the function that gives the ports, when used bare.
        value: more to say.
    """
    if wrapped is None:
        return functools.partial(add_port_docs, value=value)
    paragraphs = (wrapped.__doc__, "Maps the name of each port to its NeuralType.", value)
    wrapped.__doc__ = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return wrapped
