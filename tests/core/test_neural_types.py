"""Types: how tensors fit ports."""

import pytest

from nemo.core import (
    AudioSignal,
    AxisKind,
    AxisKindAbstract,
    AxisType,
    ChannelType,
    ElementType,
    EncodedRepresentation,
    LabelsType,
    LogitsType,
    LogprobsType,
    LossType,
    MaskType,
    MFCCSpectrogramType,
    NeuralType,
    NeuralTypeComparisonResult,
    SpectrogramType,
    VoidType,
)
from nemo.utils.errors import UsageError

R = NeuralTypeComparisonResult


def test_letters_and_words_name_axes():
    assert AxisKind.from_str("b") is AxisKind.from_str("N") is AxisKind.from_str("batch") is AxisKind.Batch
    assert AxisKind.from_str("c") is AxisKind.from_str("d") is AxisKind.Channel is AxisKind.Dimension
    with pytest.raises(UsageError, match="not an axis; found 'q'"):
        AxisKind.from_str("q")


def test_letters_mean_the_same_as_axis_types():
    short = NeuralType(("B", "T", "D"), ChannelType())
    long = NeuralType(
        (AxisType(AxisKind.Batch), AxisType(AxisKind.Time), AxisType(AxisKind.Dimension)), ChannelType()
    )
    assert short.compare(long) is long.compare(short) is R.SAME


@pytest.mark.parametrize(
    ("port", "tensor", "result"),
    [
        (ChannelType(), EncodedRepresentation(), R.GREATER),
        (EncodedRepresentation(), ChannelType(), R.LESS),
        (SpectrogramType(), MFCCSpectrogramType(), R.GREATER),
        (LabelsType(), MaskType(), R.GREATER),
        (LogitsType(), LogprobsType(), R.GREATER),
        (LabelsType(), LogitsType(), R.INCOMPATIBLE),
        (VoidType(), LossType(), R.SAME),
        (LossType(), VoidType(), R.INCOMPATIBLE),
        (AudioSignal(16000), AudioSignal(16000), R.SAME),
        (AudioSignal(16000), AudioSignal(8000), R.SAME_TYPE_INCOMPATIBLE_PARAMS),
    ],
)
def test_elements_compare_by_class_and_parameters(port, tensor, result):
    axes = ("B", "T")
    assert NeuralType(axes, port).compare(NeuralType(axes, tensor)) is result


def test_axes_compare_by_kind_order_and_size():
    btd = NeuralType(("B", "T", "D"), ChannelType())
    assert btd.compare(NeuralType(("T", "B", "D"), ChannelType())) is R.TRANSPOSE_SAME
    assert btd.compare(NeuralType(("B", "T"), ChannelType())) is R.INCOMPATIBLE
    assert btd.compare(NeuralType(("B", "T", "D"), LogitsType())) is R.INCOMPATIBLE

    def sized(size):
        return NeuralType((AxisType(AxisKind.Batch), AxisType(AxisKind.Dimension, size)), ChannelType())

    assert sized(None).compare(sized(80)) is R.SAME
    assert sized(64).compare(sized(80)) is R.DIM_INCOMPATIBLE


def test_any_axis_does_not_forgive_another_mismatch():
    port = NeuralType(("T", "Any"), ChannelType())
    assert port.compare(NeuralType(("T", "D"), ChannelType())) is R.SAME
    assert port.compare(NeuralType(("B", "D"), ChannelType())) is R.INCOMPATIBLE


def test_a_void_port_accepts_everything_and_feeds_only_void_ports():
    void, typed = NeuralType(), NeuralType(("B",), LabelsType())
    assert void.compare(typed) is R.SAME
    assert typed.compare(void) is R.INCOMPATIBLE


def test_a_loss_has_no_axes():
    loss = NeuralType(elements_type=LossType())
    assert loss.compare(NeuralType(elements_type=LossType())) is R.SAME
    assert loss.compare(NeuralType(("B",), LossType())) is R.INCOMPATIBLE


def test_axis_kinds_can_be_defined():
    class Kind(AxisKindAbstract):
        Good = 0
        Bad = 1

    def of(kind):
        return NeuralType((AxisType(kind), AxisType(AxisKind.Time)), ChannelType())

    assert of(Kind.Good).compare(of(Kind.Good)) is R.SAME
    assert of(Kind.Good).compare(of(Kind.Bad)) is R.INCOMPATIBLE


def test_malformed_types_are_refused():
    with pytest.raises(UsageError, match="all strings or all AxisType"):
        NeuralType(("B", AxisType(AxisKind.Time)), ChannelType())
    with pytest.raises(UsageError, match="must be an instance"):
        NeuralType(("B",), ChannelType)
    with pytest.raises(UsageError, match="a list axis has no size"):
        AxisType(AxisKind.Batch, size=3, is_list=True)
    with pytest.raises(UsageError, match="list axes must come before"):
        NeuralType((AxisType(AxisKind.Batch), AxisType(AxisKind.Time, is_list=True)), ChannelType())


def test_every_element_type_can_be_shown():
    assert "logits" in str(LogitsType())
    assert str(NeuralType(("B", "T"), MaskType())) == "MaskType [batch, time]"


def test_elements_with_other_parts_do_not_fit():
    class Box(ElementType):
        def __init__(self, *parts):
            self.parts = parts

        def fields(self):  # a method, as NeMo 0.10's users write it
            return self.parts

    def boxes(*parts):
        return NeuralType(("B",), Box(*parts))

    assert boxes("X", "Y").compare(boxes("X", "Y")) is R.SAME
    assert boxes("X", "Y").compare(boxes("X", "Z")) is R.SAME_TYPE_INCOMPATIBLE_PARAMS
