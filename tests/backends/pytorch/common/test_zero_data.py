"""Zeros in place of data."""

import pytest
import torch

from nemo.backends.pytorch.common import ZerosDataLayer, ZerosLikeNM
from nemo.core import AxisKind, AxisType, ChannelType, LabelsType, NeuralModuleFactory, NeuralType
from nemo.utils.errors import UsageError

IMAGE = NeuralType(
    (AxisType(AxisKind.Batch), AxisType(AxisKind.Channel, 3), AxisType(AxisKind.Height, 5)), ChannelType()
)
LABEL = NeuralType(("B",), LabelsType())


def batches(**changes):
    arguments = {"size": 5, "output_ports": {"image": IMAGE, "label": LABEL}, "dtype": None, "batch_size": 2}
    return list(ZerosDataLayer(**(arguments | changes)).batches(epoch=0))


def test_shapes_are_those_of_the_ports():
    first, *_, last = batches()
    assert [tuple(tensor.shape) for tensor in first] == [(2, 3, 5), (2,)]
    assert [tuple(tensor.shape) for tensor in last] == [(1, 3, 5), (1,)]
    assert all(tensor.count_nonzero() == 0 for tensor in first)


def test_axes_without_a_size_have_size_one():
    ((tokens,), *_) = batches(output_ports={"tokens": NeuralType(("B", "T"), ChannelType())})
    assert tokens.shape == (2, 1)


def test_given_shapes_replace_those_of_the_ports():
    (first, *_) = batches(shapes=[(7,), (2, 2)])
    assert [tuple(tensor.shape) for tensor in first] == [(2, 7), (2, 2, 2)]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, [torch.float32, torch.float32]),
        (torch.FloatTensor, [torch.float32, torch.float32]),
        (torch.int64, [torch.int64, torch.int64]),
        ([torch.FloatTensor, torch.LongTensor], [torch.float32, torch.int64]),
    ],
)
def test_types_are_of_all_ports_or_one_for_each(dtype, expected):
    assert [tensor.dtype for tensor in batches(dtype=dtype)[0]] == expected


def test_a_large_layer_takes_no_memory():
    layer = ZerosDataLayer(10**9, {"image": IMAGE}, torch.float32, batch_size=4)
    assert layer.dataset.tensors[0].untyped_storage().nbytes() == 4
    assert len(layer) == 10**9


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"dtype": [torch.FloatTensor]}, "dtype"),
        ({"shapes": [(1,)]}, "shapes"),
        ({"size": 0}, "size"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, where):
    with pytest.raises(UsageError, match=f"^{where}: "):
        batches(**changes)


def test_zeros_like_give_segment_ids_in_a_graph():
    ids = ZerosDataLayer(
        3, {"ids": NeuralType(("B", "T"), ChannelType())}, torch.int32, batch_size=3, shapes=[(4,)]
    )()
    ((zeros,),) = NeuralModuleFactory().infer([ZerosLikeNM()(input_type_ids=ids)])
    assert zeros.shape == (3, 4) and zeros.dtype is torch.int64
    assert ZerosLikeNM()(torch.tensor([[5, 6]])).tolist() == [[0, 0]]
