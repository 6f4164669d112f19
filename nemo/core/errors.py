"""What goes wrong while modules are wired, and while they are made from a configuration."""

from nemo.utils.errors import NemoError, UsageError


class NeuralTypeError(NemoError, ValueError):
    """Base of all wiring errors."""

    kind, exit_code = "WIRING", 2


class NeuralPortNameMismatchError(NeuralTypeError):
    """A module has no port of that name."""


class NeuralPortInputError(NeuralTypeError, TypeError):
    """Something else than the output of a module was given to a port."""


class NeuralPortMissingError(NeuralTypeError):
    """A port that a module needs was left out."""


class NeuralPortNmTensorMismatchError(NeuralTypeError):
    """A tensor's type does not fit the port it was given to."""


class CanNotInferResultNeuralType(NeuralTypeError):
    """An output port whose type is not known."""


class ModuleConfigError(UsageError, ImportError):
    """A configuration that does not make a module, or not one of the class that was asked."""
