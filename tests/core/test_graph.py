"""Wiring: calls on symbolic tensors are checked and recorded."""

import copy

import pytest

from nemo.core import (
    ChannelType,
    LabelsType,
    NeuralModule,
    NeuralPortMissingError,
    NeuralPortNameMismatchError,
    NeuralPortNmTensorMismatchError,
    NeuralType,
    calls_leading_to,
)

BT = NeuralType(("B", "T"), ChannelType())


class Source(NeuralModule):
    output_ports = {"x": BT, "y": NeuralType(("B",), LabelsType())}


class Double(NeuralModule):
    input_ports = {"x": BT, "scale": NeuralType(("B", "T"), ChannelType(), optional=True)}
    output_ports = {"out": BT}

    def __init__(self, factor=2, *sizes, name="double", **more):
        pass


def test_several_outputs_come_as_a_namedtuple_and_one_alone():
    data = Source()()
    assert type(data).__name__ == "SourceOutput"
    assert data._fields == ("x", "y")
    out = Double()(x=data.x)
    assert out.compare(BT).name == "SAME"
    assert out.name == "out"


def test_each_call_is_a_node_of_its_own():
    data, double = Source()(), Double()
    first, second = double(x=data.x), double(x=data.x)
    assert first != second
    assert first.unique_name != second.unique_name
    calls = calls_leading_to([first, second])
    assert [str(call.module) for call in calls] == ["Source", "Double", "Double"]


def test_calls_follow_the_calls_they_depend_on():
    data = Source()()
    deep = Double()(x=Double()(x=data.x), scale=data.x)
    calls = calls_leading_to([deep])
    seen = set()
    for call in calls:
        assert all(tensor.call in seen for tensor in call.inputs.values())
        seen.add(call)
    assert len(calls) == 3


def test_an_unknown_port_is_refused_with_the_closest_name():
    data = Source()()
    with pytest.raises(NeuralPortNameMismatchError, match="did you mean 'scale'"):
        Double()(x=data.x, scael=data.x)


def test_a_missing_port_is_refused_when_wiring():
    with pytest.raises(NeuralPortMissingError, match="Double was called without x"):
        Double()()


def test_a_tensor_of_another_type_is_refused_naming_both_ends():
    data = Source()()
    with pytest.raises(NeuralPortNmTensorMismatchError) as problem:
        Double()(x=data.y)
    assert "Double.x takes ChannelType [batch, time]" in str(problem.value)
    assert "Source.y: LabelsType [batch]" in str(problem.value)


def test_an_optional_port_may_be_none():
    data = Source()()
    assert list(Double()(x=data.x, scale=None).producer_args) == ["x"]


def test_init_params_are_the_arguments_of_the_call_itself():
    dim = 777  # a name in an outer frame must not matter
    module = Double(5, 1, 2, extra=dim)
    assert module.init_params == {"factor": 5, "sizes": (1, 2), "name": "double", "extra": 777}
    assert copy.deepcopy(module).init_params == module.init_params
