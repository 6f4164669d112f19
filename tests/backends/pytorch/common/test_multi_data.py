"""Several data layers as one: which samples come together, under which names, in which order."""

import pytest
import torch

from nemo.backends.pytorch import DataLayerNM
from nemo.backends.pytorch.common import DataCombination, LossAggregatorNM, MultiDataLayer, ZerosDataLayer
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import ChannelType, NeuralModuleFactory, NeuralType
from nemo.utils.errors import UsageError

ZIP, CROSSPRODUCT = DataCombination.ZIP, DataCombination.CROSSPRODUCT


class Numbers(DataLayerNM):
    """first, first + 1, ..., as the port `number`."""

    output_ports = {"number": NeuralType(("B",), ChannelType())}

    def __init__(self, first, n):
        self.dataset = torch.utils.data.TensorDataset(torch.arange(first, first + n))


def zeros(size, *ports):
    port = NeuralType(("B", "T"), ChannelType())
    return ZerosDataLayer(size, dict.fromkeys(ports, port), torch.FloatTensor, batch_size=4)


def rows(layer, **where):
    """The samples of an epoch, batch by batch."""
    return [list(zip(*(t.tolist() for t in b), strict=True)) for b in layer.batches(**where)]


def test_zip_puts_the_same_numbers_together():
    layer = MultiDataLayer([Numbers(0, 3), Numbers(10, 3)], batch_size=2, combination_mode=ZIP)
    assert rows(layer, epoch=0) == [[(0, 10), (1, 11)], [(2, 12)]]


def test_cross_product_has_every_pair_once():
    layer = MultiDataLayer([Numbers(0, 2), Numbers(10, 4)], batch_size=8)
    assert len(layer) == 8
    assert rows(layer, epoch=0) == [[(i, 10 + j) for i in range(2) for j in range(4)]]


def test_cross_product_of_three():
    layer = MultiDataLayer([Numbers(0, 2), Numbers(0, 3), Numbers(0, 2)], batch_size=12)
    (batch,) = rows(layer, epoch=0)
    assert batch == [(i, j, k) for i in range(2) for j in range(3) for k in range(2)]


def test_shuffling_makes_another_order_of_the_same_pairs_in_every_epoch():
    layer = MultiDataLayer([Numbers(0, 4), Numbers(10, 4)], batch_size=16, shuffle=True)
    (first,), (second,) = rows(layer, epoch=0), rows(layer, epoch=1)
    assert first != second and sorted(first) == sorted(second)
    assert rows(layer, epoch=0) == [first]


def test_an_epoch_can_be_entered_at_any_batch():
    layer = MultiDataLayer([Numbers(0, 4), Numbers(10, 3)], batch_size=5, shuffle=True)
    assert rows(layer, epoch=2, first=1) == rows(layer, epoch=2)[1:]


def test_names_that_are_taken_get_the_number_of_their_layer():
    layer = MultiDataLayer([zeros(4, "a", "b"), zeros(4, "a", "c")], batch_size=4)
    assert [*layer.output_ports] == ["a", "b", "a_1", "c"]
    assert layer()._fields == ("a", "b", "a_1", "c")


def test_ports_can_be_renamed():
    layers = [zeros(4, "a", "b"), zeros(4, "a", "b")]
    layer = MultiDataLayer(layers, batch_size=4, port_names=["1", "2", "3", "4"])
    assert [*layer.output_ports] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "b", "c", "c"]])
def test_every_port_needs_a_name_of_its_own(names):
    with pytest.raises(UsageError, match=r"port_names.*expected 4 different names"):
        MultiDataLayer([zeros(4, "a", "b"), zeros(4, "a", "b")], batch_size=4, port_names=names)


def test_names_made_up_that_are_taken_are_refused():
    with pytest.raises(UsageError, match="found a, a_1, a_1"):
        MultiDataLayer([zeros(4, "a", "a_1"), zeros(4, "a")], batch_size=4)


def test_layers_of_different_lengths_cannot_be_zipped():
    with pytest.raises(UsageError, match="found ZerosDataLayer: 4, ZerosDataLayer: 2"):
        MultiDataLayer([zeros(4, "a"), zeros(2, "b")], batch_size=4, combination_mode=ZIP)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"data_layers": []}, "no data layers"),
        ({"batch_size": 0}, "batch_size"),
        ({"combination_mode": "cross"}, "'cross', expected DataCombination.CROSSPRODUCT or"),
        ({"data_layers": [DataLayerNM()]}, "DataLayerNM: cannot be combined"),
    ],
)
def test_layers_that_do_not_fit_are_refused(arguments, problem):
    with pytest.raises(UsageError, match=problem):
        MultiDataLayer(**({"data_layers": [zeros(4, "a")], "batch_size": 4} | arguments))


def test_layers_make_their_own_batches():
    sentences = Numbers(0, 2)
    sentences.dataset = [[1], [2, 3]]
    sentences.collate_fn = lambda samples: (torch.tensor([len(sample) for sample in samples]),)
    by_name = Numbers(0, 2)
    by_name.dataset = [{"other": 0, "number": 7}, {"other": 0, "number": 8}]
    layer = MultiDataLayer([sentences, by_name], batch_size=2, combination_mode=ZIP)
    assert rows(layer, epoch=0) == [[(1, 7), (2, 8)]]


def test_layers_can_be_combined_twice():
    pairs = MultiDataLayer([Numbers(0, 2), Numbers(10, 2)], batch_size=1, combination_mode=ZIP)
    layer = MultiDataLayer([pairs, Numbers(20, 3)], batch_size=6, port_names=["a", "b", "c"])
    assert [*layer.output_ports] == ["a", "b", "c"]
    assert rows(layer, epoch=0) == [[(i, 10 + i, 20 + j) for i in range(2) for j in range(3)]]


def test_samples_that_change_with_the_epoch_do_so_here():
    class Changing(list):
        def set_epoch(self, epoch):
            self[:] = [100 * epoch + i for i in range(2)]

    changing = Numbers(0, 2)
    changing.dataset = Changing([0, 1])
    changing.collate_fn = lambda samples: (torch.tensor(samples),)
    layer = MultiDataLayer([changing, Numbers(10, 2)], batch_size=2, combination_mode=ZIP)
    assert rows(layer, epoch=3) == [[(300, 10), (301, 11)]]


def test_two_curves_are_learned_by_one_net():
    torch.manual_seed(0)
    layers = [RealFunctionDataLayer(batch_size=1, n=100), RealFunctionDataLayer(batch_size=1, n=100, seed=1)]
    x_0, y_0, x_1, y_1 = MultiDataLayer(layers, batch_size=4, combination_mode=ZIP)()
    net, mse = TaylorNet(dim=4), MSELoss()
    losses = [mse(predictions=net(x=x), target=y) for x, y in ((x_0, y_0), (x_1, y_1))]
    total = LossAggregatorNM(num_inputs=2)(loss_1=losses[0], loss_2=losses[1])

    def mean():
        first, second, both = map(torch.stack, NeuralModuleFactory().infer([*losses, total]))
        torch.testing.assert_close(first + second, both)
        return both.mean()

    before = mean()
    NeuralModuleFactory().train([total], optimizer="sgd", optimization_params={"lr": 1e-4, "num_epochs": 20})
    assert mean() < before / 3
