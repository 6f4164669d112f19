"""The types of ports and tensors: axes (the meaning of each dimension) and the kind of element.

Comparing two types gives one of the eight results of NeMo 0.10. Wiring accepts two of them: SAME and
GREATER (the tensor's element type is a subclass of the port's).
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any

from nemo.core.errors import (
    CanNotInferResultNeuralType,
    NeuralPortInputError,
    NeuralPortMissingError,
    NeuralPortNameMismatchError,
    NeuralPortNmTensorMismatchError,
    NeuralTypeError,
)
from nemo.utils.errors import UsageError

__all__ = [
    "AcousticEncodedRepresentation",
    "AudioSignal",
    "AxisKind",
    "AxisKindAbstract",
    "AxisType",
    "CanNotInferResultNeuralType",
    "CategoricalValuesType",
    "ChannelType",
    "ElementType",
    "EmbeddedTextType",
    "EncodedRepresentation",
    "LabelsType",
    "LengthsType",
    "LogitsType",
    "LogprobsType",
    "LossType",
    "MFCCSpectrogramType",
    "MaskType",
    "MelSpectrogramType",
    "NeuralPortInputError",
    "NeuralPortMissingError",
    "NeuralPortNameMismatchError",
    "NeuralPortNmTensorMismatchError",
    "NeuralType",
    "NeuralTypeComparisonResult",
    "NeuralTypeError",
    "NmTensor",
    "PredictionsType",
    "RegressionValuesType",
    "SpectrogramType",
    "VoidType",
]

NmTensor: type  # NeMo 0.10's address; set by `nemo.core`, as `graph` imports this module


class AxisKindAbstract(Enum):
    """Base class of axis kinds; subclass it to define your own."""


class AxisKind(AxisKindAbstract):
    """The meaning of a dimension."""

    Batch = 0
    Time = 1
    Dimension = 2
    Channel = 2  # another name for Dimension
    Width = 3
    Height = 4
    Any = 5

    def __str__(self) -> str:
        return self.name.lower()

    @staticmethod
    def from_str(label: str) -> "AxisKind":
        """The kind named by a letter or word, case-insensitive.

        Raises:
            UsageError: no kind has this name.
        """
        kind = _KIND_OF_LABEL.get(label.strip().lower())
        if kind is None:
            raise UsageError("not an axis", found=repr(label), expected=f"one of {', '.join(_KIND_OF_LABEL)}")
        return kind


_KIND_OF_LABEL = {
    **dict.fromkeys(("b", "n", "batch"), AxisKind.Batch),
    **dict.fromkeys(("t", "time"), AxisKind.Time),
    **dict.fromkeys(("d", "c", "dimension", "channel"), AxisKind.Dimension),
    **dict.fromkeys(("w", "width"), AxisKind.Width),
    **dict.fromkeys(("h", "height"), AxisKind.Height),
    "any": AxisKind.Any,
}


class AxisType:
    """One dimension: its kind, its size (None means any), and whether it is a Python list.

    Raises:
        UsageError: a list with a fixed size.
    """

    def __init__(self, kind: AxisKindAbstract, size: int | None = None, is_list: bool = False):
        if size is not None and is_list:
            raise UsageError("a list axis has no size", found=f"size={size}, is_list=True")
        self.kind = kind
        self.size = size
        self.is_list = is_list

    def accepts(self, other: "AxisType") -> bool:
        """Whether a tensor with the axis `other` fits where this axis is expected."""
        if self.kind is AxisKind.Any:
            return True
        same_size = self.size is None or self.size == other.size
        return self.kind == other.kind and self.is_list == other.is_list and same_size

    def __repr__(self) -> str:
        size = "" if self.size is None else f":{self.size}"
        return f"[{self.kind}{size}]" if self.is_list else f"{self.kind}{size}"


class NeuralTypeComparisonResult(Enum):
    """The result of `port_type.compare(tensor_type)`."""

    SAME = 0
    LESS = 1  # the port's element type is a subclass of the tensor's
    GREATER = 2  # the tensor's element type is a subclass of the port's
    DIM_INCOMPATIBLE = 3  # the same axes with different sizes
    TRANSPOSE_SAME = 4  # the same axes in another order
    CONTAINER_SIZE_MISMATCH = 5  # for compatibility; never returned
    INCOMPATIBLE = 6
    SAME_TYPE_INCOMPATIBLE_PARAMS = 7


_SAME = NeuralTypeComparisonResult.SAME


class ElementType:
    """The kind of element in a tensor. A subclass is a special case of its base class."""

    def __str__(self) -> str:
        return self.__doc__.strip().splitlines()[0] if self.__doc__ else type(self).__name__

    __repr__ = object.__repr__

    @property
    def type_parameters(self) -> dict:
        """Parameters that must be equal for two elements of one class to match."""
        return {}

    @property
    def fields(self) -> Iterable[str] | None:
        """Names of the fields of a compound element, or None."""
        return None

    def compare(self, second: "ElementType") -> NeuralTypeComparisonResult:
        """Compare with `second` where this element type is expected."""
        if type(self) is not type(second):
            if issubclass(type(self), type(second)):
                return NeuralTypeComparisonResult.LESS
            if issubclass(type(second), type(self)):
                return NeuralTypeComparisonResult.GREATER
            return NeuralTypeComparisonResult.INCOMPATIBLE
        if self.type_parameters != second.type_parameters or _fields(self) != _fields(second):
            return NeuralTypeComparisonResult.SAME_TYPE_INCOMPATIBLE_PARAMS
        return _SAME


def _fields(element: ElementType) -> Iterable[str] | None:
    """The value of `fields`, which subclasses define as a property or as a method."""
    fields: Any = element.fields
    return fields() if callable(fields) else fields


class VoidType(ElementType):
    """Anything: a port of this type accepts every element type."""

    def compare(self, second: ElementType) -> NeuralTypeComparisonResult:
        return _SAME


class ChannelType(ElementType):
    """Element to represent convolutional input/output channel."""


class EmbeddedTextType(ChannelType):
    """Element to represent output on word/text embedding layers."""


class EncodedRepresentation(ChannelType):
    """Element to represent encoded representation, for example, encoder's output."""


class AcousticEncodedRepresentation(EncodedRepresentation):
    """Element to represent encoded representation returned by the acoustic encoder model."""


class SpectrogramType(ChannelType):
    """Element to represent generic spectrogram signal."""


class MelSpectrogramType(SpectrogramType):
    """Element to represent mel spectrogram signal."""


class MFCCSpectrogramType(SpectrogramType):
    """Element to represent MFCC spectrogram signal."""


class AudioSignal(ElementType):
    """Element to represent an audio signal.

    Args:
        freq: sampling rate in Hz; signals of different rates do not match.
    """

    def __init__(self, freq: int = 16000):
        self._parameters = {"freq": freq}

    @property
    def type_parameters(self) -> dict:
        return self._parameters


class LogitsType(ElementType):
    """Element type to represent logits: scores before a softmax."""


class LogprobsType(LogitsType):
    """Element type to represent log-probabilities: logits whose log-softmax is themselves."""


class LabelsType(ElementType):
    """Element type to represent labels."""


class PredictionsType(LabelsType):
    """Element type to represent predictions of a model: labels it assigns, or values it estimates."""


class RegressionValuesType(PredictionsType):
    """Element type to represent labels for regression task."""


class CategoricalValuesType(PredictionsType):
    """Element type to represent labels for categorical classification task."""


class MaskType(PredictionsType):
    """Element type to represent a boolean mask."""


class LengthsType(ElementType):
    """Element type to represent lengths of sequences, in elements of their time axis."""


class LossType(ElementType):
    """Element type to represent outputs of loss modules."""


class NeuralType:
    """Axes and elements of a tensor.

    Args:
        axes: one entry per dimension, all strings ("B", "T", ...) or all AxisType; None means a tensor of
            unknown shape.
        elements_type: an instance of ElementType.
        optional: an input port of this type may be left out.

    Raises:
        UsageError: strings and AxisType mixed, a list axis after a tensor axis, or a class instead of an
            instance.
    """

    def __init__(
        self,
        axes: Sequence[str] | Sequence[AxisType] | None = None,
        elements_type: ElementType | None = None,
        optional: bool = False,
    ):
        elements_type = VoidType() if elements_type is None else elements_type
        if not isinstance(elements_type, ElementType):
            raise UsageError("elements_type must be an instance of ElementType", found=repr(elements_type))
        self.elements_type = elements_type
        self.axes = None if axes is None else _parse_axes(axes)
        self.optional = optional

    def compare(self, second: "NeuralType") -> NeuralTypeComparisonResult:
        """Compare a tensor's type `second` with this type, that of a port."""
        if self.axes is None and type(self.elements_type) is VoidType:
            return _SAME
        elements = self.elements_type.compare(second.elements_type)
        if self.axes is None or second.axes is None:
            return elements if self.axes is second.axes else NeuralTypeComparisonResult.INCOMPATIBLE
        axes = _compare_axes(self.axes, second.axes)
        if axes is _SAME:
            return elements
        return axes if elements is _SAME else NeuralTypeComparisonResult.INCOMPATIBLE

    def compare_and_raise_error(
        self, parent_type_name: str, port_name: str, second_object: "NeuralType"
    ) -> None:
        """Refuse a tensor that does not match this port.

        Raises:
            NeuralPortNmTensorMismatchError: names the port, the tensor and both types.
        """
        result = self.compare(second_object)
        if result not in (_SAME, NeuralTypeComparisonResult.GREATER):
            raise NeuralPortNmTensorMismatchError(
                f"{parent_type_name}.{port_name} takes {self} "
                f"but got {_origin(second_object)}{second_object.described()}: {result.name}"
            )

    def described(self) -> str:
        """The type as text: `ChannelType [batch, time]`."""
        axes = "" if self.axes is None else f" {list(self.axes)}"
        return f"{type(self.elements_type).__name__}{axes}"

    def __str__(self) -> str:
        return self.described()


def _origin(tensor: NeuralType) -> str:
    producer, name = getattr(tensor, "producer", None), getattr(tensor, "name", None)
    return "" if producer is None else f"{producer}.{name}: "


def _parse_axes(axes: Sequence[str] | Sequence[AxisType]) -> tuple[AxisType, ...]:
    if len({isinstance(axis, str) for axis in axes}) > 1:
        raise UsageError("axes must be all strings or all AxisType", found=repr(tuple(axes)))
    parsed = tuple(AxisType(AxisKind.from_str(axis)) if isinstance(axis, str) else axis for axis in axes)
    flags = [axis.is_list for axis in parsed]
    if flags != sorted(flags, reverse=True):
        raise UsageError("list axes must come before tensor axes", found=str(list(parsed)))
    return parsed


def _compare_axes(port: tuple[AxisType, ...], tensor: tuple[AxisType, ...]) -> NeuralTypeComparisonResult:
    if len(port) == len(tensor) and all(a.accepts(b) for a, b in zip(port, tensor, strict=True)):
        return _SAME

    def by_kind(axes: tuple[AxisType, ...]) -> list[tuple[str, int | None]]:
        return sorted(((str(a.kind), a.size) for a in axes), key=str)

    if by_kind(port) == by_kind(tensor):
        return NeuralTypeComparisonResult.TRANSPOSE_SAME
    if [kind for kind, _ in by_kind(port)] == [kind for kind, _ in by_kind(tensor)]:
        return NeuralTypeComparisonResult.DIM_INCOMPATIBLE
    return NeuralTypeComparisonResult.INCOMPATIBLE
