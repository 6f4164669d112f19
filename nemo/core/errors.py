"""Errors in wiring modules and in creating them from a configuration."""

from nemo.utils.errors import NemoError, UsageError


class NeuralTypeError(NemoError, ValueError):
    """Base of all wiring errors."""

    kind, exit_code = "WIRING", 2


class NeuralPortNameMismatchError(NeuralTypeError):
    """A module has no port of that name."""


class NeuralPortInputError(NeuralTypeError, TypeError):
    """A port was given something other than a module's output."""


class NeuralPortMissingError(NeuralTypeError):
    """A required port was left out."""


class NeuralPortNmTensorMismatchError(NeuralTypeError):
    """A tensor's type does not match the port's."""


class CanNotInferResultNeuralType(NeuralTypeError):
    """The type of an output port cannot be inferred."""


class ModuleConfigError(UsageError, ImportError):
    """A configuration that describes no module, or one of the wrong class."""
