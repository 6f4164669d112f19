"""Neural modules that are torch modules, among them ones written for NeMo 0.10."""

import pytest
import torch
from torch import nn

from nemo.backends.pytorch.nm import DataLayerNM, LossNM, NonTrainableNM, TrainableNM
from nemo.backends.pytorch.tutorials import TaylorNet
from nemo.core import DeviceType, NeuralModuleFactory, WeightShareTransform
from nemo.core.callbacks import ActionCallback, EvaluatorCallback
from nemo.core.neural_types import AxisKind, AxisType, ChannelType, LabelsType, LossType, NeuralType
from nemo.utils.decorators import add_port_docs
from nemo.utils.errors import CheckpointError, UsageError

# Modules in the manner of 0.10: ports as properties, attributes with an underscore, a device of their own.


class Doubling(NonTrainableNM):
    @property
    @add_port_docs()
    def input_ports(self):
        return {"mod_in": NeuralType((AxisType(AxisKind.Batch), AxisType(AxisKind.Dimension)), ChannelType())}

    @property
    @add_port_docs()
    def output_ports(self):
        return {
            "mod_out": NeuralType((AxisType(AxisKind.Batch), AxisType(AxisKind.Dimension)), ChannelType())
        }

    def __init__(self):
        super().__init__()

    def forward(self, mod_in):
        return mod_in * 2


class Line(TrainableNM):
    @property
    def input_ports(self):
        return {"x": NeuralType(("B", "D"), ChannelType())}

    @property
    def output_ports(self):
        return {"y": NeuralType(("B", "D"), ChannelType())}

    def __init__(self, *, features=1):
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.on_gpu = self.placement == DeviceType.GPU
        self.to(self._device)

    def forward(self, x):
        return self.linear(x)


class SquaredError(LossNM):
    @property
    def input_ports(self):
        return {
            "predictions": NeuralType(("B", "D"), ChannelType()),
            "target": NeuralType(("B", "D"), LabelsType()),
        }

    @property
    def output_ports(self):
        return {"loss": NeuralType(elements_type=LossType())}

    def __init__(self):
        super().__init__()
        self._criterion = nn.MSELoss()

    def _loss_function(self, **kwargs):
        return self._criterion(kwargs["predictions"], kwargs["target"])


POINTS = torch.linspace(-1, 1, 10).unsqueeze(1)
PORTS = {"x": NeuralType(("B", "D"), ChannelType()), "y": NeuralType(("B", "D"), LabelsType())}


class ByDataset(DataLayerNM):
    @property
    def output_ports(self):
        return PORTS

    def __init__(self, *, batch_size):
        super().__init__()
        self._device = torch.device("cpu")
        self._batch_size = batch_size
        self._shuffle = True
        self._num_workers = 0
        self._dataset = torch.utils.data.TensorDataset(POINTS, 3 * POINTS + 1)

    def __len__(self):
        return len(self._dataset)

    @property
    def dataset(self):
        return self._dataset

    @property
    def data_iterator(self):
        return None


class ByIterator(DataLayerNM):
    """Does not know its length."""

    @property
    def output_ports(self):
        return PORTS

    def __init__(self, *, batch_size):
        super().__init__()
        self._data_iterator = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(POINTS, 3 * POINTS + 1), batch_size=batch_size
        )

    @property
    def dataset(self):
        return None

    @property
    def data_iterator(self):
        return self._data_iterator


class ByBoth(ByDataset):
    """As NeMo 0.10's own tests have it: a method in place of the property."""

    def data_iterator(self):
        pass


class ByMethod(ByIterator):
    def data_iterator(self):
        return iter(self._data_iterator)


@pytest.fixture
def factory():
    return NeuralModuleFactory(placement=DeviceType.CPU, random_seed=0)


@pytest.mark.parametrize("layer_class", [ByDataset, ByIterator, ByBoth, ByMethod])
def test_modules_of_nemo_0_10_train_evaluate_and_infer(factory, layer_class):
    layer, line, loss = layer_class(batch_size=4), Line(), SquaredError()
    x, y = layer()
    total = loss(predictions=line(x=x), target=y)
    doubled = Doubling()(mod_in=x)

    factory.train([total], optimizer="sgd", optimization_params={"num_epochs": 60, "lr": 0.2})
    assert line.linear.weight.item() == pytest.approx(3, abs=0.1)
    assert line.linear.bias.item() == pytest.approx(1, abs=0.1)

    seen: list = []

    def note(tensors, _):
        seen.extend(tensors[total.unique_name])

    factory.eval([EvaluatorCallback([total], note, lambda _: None)])
    assert len(seen) == 3
    assert all(value.item() < 0.01 for value in seen)

    batches, twice = factory.infer([x, doubled], verbose=False)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat(twice), 2 * torch.cat(batches))


def test_modules_report_their_device(factory):
    line = Line()
    assert line._device == torch.device("cpu") == line.linear.weight.device
    assert line.placement is DeviceType.CPU
    assert not line.on_gpu


def test_batch_size_shuffle_and_workers_have_two_names():
    layer = ByDataset(batch_size=4)
    assert (layer.batch_size, layer.shuffle, layer.num_workers) == (4, True, 0)
    layer.batch_size, layer.shuffle = 5, False
    assert (layer._batch_size, layer._shuffle) == (5, False)
    assert [len(x) for x, _ in layer.batches(epoch=0)] == [5, 5]
    fresh = DataLayerNM()
    assert (fresh.batch_size, fresh.shuffle, fresh.num_workers) == (1, False, 0)


def test_a_layer_without_data_is_an_error():
    with pytest.raises(UsageError, match="DataLayerNM: has no batches; found dataset None"):
        next(DataLayerNM().batches(epoch=0))


def test_a_layer_is_shuffled_only_in_training_by_default(factory):
    layer, line, loss, seen = ByDataset(batch_size=5), Line(), SquaredError(), []
    layer.shuffle = None
    x, y = layer()
    total = loss(predictions=line(x=x), target=y)

    class Note(ActionCallback):
        tensors = [x]

        def on_iteration_end(self):
            seen.append(self.action.value_of(x))

    def in_order():
        (batches,) = factory.infer([x], verbose=False)
        return torch.equal(torch.cat(batches), POINTS)

    assert in_order()
    factory.train([total], "sgd", {"num_epochs": 2, "lr": 0.1}, [Note()])
    assert in_order()
    first, second = torch.cat(seen[:2]), torch.cat(seen[2:])
    assert not torch.equal(first, POINTS) and not torch.equal(first, second)
    assert torch.equal(first.sort(dim=0).values, POINTS.sort(dim=0).values)


def test_worker_processes_give_the_same_batches():
    layer = ByDataset(batch_size=4)
    alone = [x for x, _ in layer.batches(epoch=1)]
    layer._num_workers = 1
    assert all(torch.equal(a, b) for a, (b, _) in zip(alone, layer.batches(epoch=1), strict=True))


def test_a_batch_of_one_port_is_a_batch():
    layer = DataLayerNM()
    layer.data_iterator = [torch.zeros(3, 2), torch.ones(1, 2)]
    assert [[len(part) for part in batch] for batch in layer.batches(epoch=0)] == [[3], [1]]


def test_an_unknown_length_is_reported_as_unknown():
    with pytest.raises(UsageError, match="ByIterator: the number of samples is unknown"):
        len(ByIterator(batch_size=4))


def test_pretrained_model_name_is_taken_by_the_base(factory):
    class Named(TrainableNM):
        def __init__(self, pretrained_model_name=None):
            super().__init__(pretrained_model_name=pretrained_model_name)

    assert Named("some-model").pretrained_model_name == "some-model"
    assert Named().pretrained_model_name is None


# Weights


def same_weights(a, b):
    ours, theirs = a.get_weights(), b.get_weights()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n][0], theirs[n][0]) for n in ours)


def test_weights_of_one_module_can_be_set_in_another():
    one, other = TaylorNet(dim=4), TaylorNet(dim=4)
    assert not same_weights(one, other)
    other.set_weights(one.get_weights())
    assert same_weights(one, other)
    with torch.no_grad():
        one.fc1.bias += 1
    assert not same_weights(one, other)  # they were copied


def test_weights_can_be_renamed_and_transposed():
    net = Line(features=3)
    values = {"w": (torch.tensor([[1.0], [2.0], [3.0]]), False), "linear.bias": (torch.tensor([4.0]), True)}
    net.set_weights(values, {"linear.weight": ("w", WeightShareTransform.TRANSPOSE)})
    assert net.linear.weight.tolist() == [[1, 2, 3]]
    assert net.linear.bias.tolist() == [4]
    assert (net.linear.weight.requires_grad, net.linear.bias.requires_grad) == (False, True)


@pytest.mark.parametrize(
    ("values", "renamed", "says"),
    [
        ({"linear.weight": (torch.zeros(2, 3), True)}, None, r"wrong shape for a weight; found \(2, 3\)"),
        ({"linear.wait": (torch.zeros(1, 3), True)}, None, r"Line\.linear\.wait: no such weight"),
        ({}, {"linear.bias": ("b", WeightShareTransform.SAME)}, "b: no such value"),
    ],
)
def test_wrong_weights_do_not_change_the_module(values, renamed, says):
    net = Line(features=3)
    before = net.linear.bias.clone()
    with pytest.raises(UsageError, match=says):
        net.set_weights({"linear.bias": (before + 1, True)} | values, renamed)
    assert torch.equal(net.linear.bias, before)


def test_a_transposed_tie_is_not_implemented():
    with pytest.raises(NotImplementedError, match="found TRANSPOSE"):
        Line().tie_weights_with(
            Line(), ["linear.weight"], {"linear.weight": ("linear.weight", WeightShareTransform.TRANSPOSE)}
        )


def test_weights_freeze_all_or_by_name():
    net = TaylorNet(dim=4)
    net.freeze()
    assert net.num_weights == 0
    net.unfreeze({"fc1.bias"})
    assert net.num_weights == 1
    net.unfreeze()
    net.freeze({"fc1.bias"})
    assert net.num_weights == 4


# Files


def test_a_saved_module_is_restored(tmp_path):
    one, other = TaylorNet(dim=4), TaylorNet(dim=4)
    one.save_to(tmp_path / "TaylorNet.pt")
    other.restore_from(tmp_path / "TaylorNet.pt", local_rank=0)
    assert same_weights(one, other)


def test_a_module_file_of_nemo_0_10_is_read(tmp_path):
    weights = {"fc1.weight": torch.arange(4.0).unsqueeze(0), "fc1.bias": torch.ones(1)}
    torch.save(weights, tmp_path / "TaylorNet-STEP-7.pt")
    net = TaylorNet(dim=4)
    net.restore_from(tmp_path / "TaylorNet-STEP-7.pt")
    assert net.fc1.weight.tolist() == [[0, 1, 2, 3]]


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_weight_file_is_not_run(tmp_path):
    torch.save({"fc1.weight": Canary(tmp_path / "canary")}, tmp_path / "TaylorNet.pt")
    net = TaylorNet(dim=4)
    before = net.fc1.weight.clone()
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        net.restore_from(tmp_path / "TaylorNet.pt")
    assert not (tmp_path / "canary").exists()
    assert torch.equal(net.fc1.weight, before)


@pytest.mark.parametrize("names", [["fc1.weight"], ["fc1.weight", "fc1.bias", "fc2.bias"]])
def test_weights_of_another_module_change_nothing(tmp_path, names):
    torch.save(
        {name: torch.zeros(1, 4) if "weight" in name else torch.zeros(1) for name in names}, tmp_path / "a"
    )
    net = TaylorNet(dim=4)
    before = net.fc1.weight.clone()
    with pytest.raises(CheckpointError, match="not the weights of TaylorNet"):
        net.restore_from(tmp_path / "a")
    assert torch.equal(net.fc1.weight, before)
