"""The smallest graph: points of a curve, a polynomial, a loss."""

import pytest
import torch

import nemo
from nemo.backends.pytorch.tutorials import MSELoss, RealFunctionDataLayer, TaylorNet
from nemo.core import NeuralModuleFactory, NeuralPortNmTensorMismatchError, SimpleLossLoggerCallback
from nemo.utils.errors import UsageError


def wire(modules, layer):
    x, y = layer()
    prediction = x
    for module in modules:
        prediction = module(x=prediction)
    return MSELoss()(predictions=prediction, target=y)


def mean_loss(loss):
    return torch.stack(NeuralModuleFactory().infer([loss])[0]).mean().item()


def train(loss, **params):
    NeuralModuleFactory().train([loss], optimizer="sgd", optimization_params=params)


def test_the_modules_have_their_short_address():
    assert nemo.tutorials.TaylorNet is nemo.backends.pytorch.tutorials.TaylorNet is TaylorNet


def test_taylor_net_is_a_polynomial_of_its_coefficients():
    net = TaylorNet(dim=4)
    with torch.no_grad():
        net.fc1.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        net.fc1.bias.fill_(0.5)
    y = net(x=torch.tensor([[0.0], [1.0], [-2.0]]), force_pt=True)
    assert y.tolist() == [[1.5], [10.5], [1 - 4 + 12 - 32 + 0.5]]


def test_taylor_net_has_a_gradient_where_x_is_zero():
    x = torch.zeros(1, 1, requires_grad=True)
    net = TaylorNet(dim=4)
    net(x=x, force_pt=True).backward()
    assert x.grad.item() == net.fc1.weight[0, 1].item()


@pytest.mark.parametrize("dim", [0, -1])
def test_a_polynomial_without_coefficients_is_refused(dim):
    with pytest.raises(UsageError, match=r"dim: out of range.*found"):
        TaylorNet(dim)


def test_points_are_of_the_function_and_the_interval():
    for name, f in (("sin", torch.sin), ("cos", torch.cos)):
        x, y = RealFunctionDataLayer(batch_size=2, f_name=name, n=50, x_lo=1, x_hi=3).dataset.tensors
        assert x.shape == y.shape == (50, 1)
        assert x.min() >= 1 and x.max() <= 3 and x.max() - x.min() > 1.5
        torch.testing.assert_close(y, f(x))


def test_points_are_drawn_by_the_seed_alone():
    x, _ = RealFunctionDataLayer(batch_size=2).dataset.tensors
    torch.rand(1)
    assert torch.equal(x, RealFunctionDataLayer(batch_size=2).dataset.tensors[0])
    assert not torch.equal(x, RealFunctionDataLayer(batch_size=2, seed=1).dataset.tensors[0])


def test_batches_are_pairs_and_the_last_one_is_short():
    layer = RealFunctionDataLayer(n=10, batch_size=4)
    assert [len(x) for x, y in layer.batches(epoch=0)] == [4, 4, 2]
    assert type(layer()).__name__ == "RealFunctionDataLayerOutput"
    assert layer()._fields == ("x", "y")


def test_another_function_is_refused_and_the_closest_named():
    with pytest.raises(UsageError, match=r"unknown function; found 'sine'.*did you mean 'sin'"):
        RealFunctionDataLayer(batch_size=2, f_name="sine")


@pytest.mark.parametrize("sizes", [{"batch_size": 0}, {"batch_size": 2, "n": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(UsageError, match="out of range"):
        RealFunctionDataLayer(**sizes)


def test_labels_cannot_stand_for_predictions_nor_inputs_for_labels():
    x, y = RealFunctionDataLayer(n=10, batch_size=1)()
    with pytest.raises(NeuralPortNmTensorMismatchError, match=r"target.*RealFunctionDataLayer\.x"):
        MSELoss()(predictions=x, target=x)
    with pytest.raises(NeuralPortNmTensorMismatchError, match=r"TaylorNet\.x.*RealFunctionDataLayer\.y"):
        TaylorNet(dim=4)(x=y)


def test_loss_is_the_mean_of_squares():
    loss = MSELoss()
    assert loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [5.0]])).item() == 5
    assert loss.count(target=torch.zeros(3, 1)).item() == 3


def test_sine_is_learned():
    torch.manual_seed(0)
    loss = wire([TaylorNet(dim=4)], RealFunctionDataLayer(n=1000, batch_size=100))
    before = mean_loss(loss)
    train(loss, lr=3e-4, num_epochs=30)
    # The best polynomial of degree 3 on [-4, 4] leaves 0.04 of the variance of 0.44.
    assert mean_loss(loss) < min(0.15, before / 10)


def test_a_chain_of_nets_learns():
    torch.manual_seed(0)
    nets = [TaylorNet(dim=4), TaylorNet(dim=2), TaylorNet(dim=2)]
    loss = wire(nets, RealFunctionDataLayer(n=1000, batch_size=100))
    start = [net.fc1.weight.clone() for net in nets]
    before = mean_loss(loss)
    train(loss, lr=3e-4, num_epochs=20)
    assert mean_loss(loss) < before / 5
    assert all(not torch.equal(net.fc1.weight, weight) for net, weight in zip(nets, start, strict=True))


@pytest.mark.parametrize("seed", [53, 75, 96])
def test_a_chain_of_nets_stays_finite(seed):
    """With these seeds it did not when weights began at the full width of Xavier's distribution."""
    torch.manual_seed(seed)
    nets = [TaylorNet(dim=4), TaylorNet(dim=2), TaylorNet(dim=2)]
    loss = wire(nets, RealFunctionDataLayer(n=10_000, batch_size=32))
    train(loss, lr=3e-4, max_steps=40)
    assert all(weight.isfinite().all() for net in nets for weight in net.parameters())


def test_the_quick_start_prints_its_loss(capsys):
    loss = wire([TaylorNet(dim=4)], RealFunctionDataLayer(n=100, batch_size=20))
    printed = []
    NeuralModuleFactory().train(
        [loss],
        optimizer="sgd",
        optimization_params={"lr": 1e-4, "max_steps": 6},
        callbacks=[
            SimpleLossLoggerCallback([loss], print_func=lambda v: printed.append(v[0].item()), step_freq=3)
        ],
    )
    assert len(printed) == 3  # steps 1, 3 and 6
