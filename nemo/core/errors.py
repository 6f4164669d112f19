"""What goes wrong while modules are wired."""

from nemo.utils.errors import NemoError


class NeuralTypeError(NemoError, ValueError):
    """Base of all wiring errors."""

    code, exit_code = "WIRING", 2


class NeuralPortNameMismatchError(NeuralTypeError):
    """A module has no port of that name."""


class NeuralPortMissingError(NeuralTypeError):
    """A port that a module needs was left out."""


class NeuralPortNmTensorMismatchError(NeuralTypeError):
    """A tensor's type does not fit the port it was given to."""


class CanNotInferResultNeuralType(NeuralTypeError):
    """An output port whose type is not known."""
