"""What a module knows of itself, and what its call takes."""

import copy

import pytest
import torch

from nemo.backends.pytorch.tutorials import RealFunctionDataLayer, TaylorNet
from nemo.core import DeviceType, NeuralModuleFactory, NeuralTypeError, neural_types
from nemo.core.neural_modules import NeuralModule, NmTensor
from nemo.core.neural_types import ChannelType, LossType, NeuralType


class Three(NeuralModule):
    def __init__(self, var1=1, var2=2, var3=3):
        super().__init__()


class OneOfThree(Three):
    def __init__(self, var2):
        super().__init__(var2=var2)


class Silent(Three):
    """Calls no base constructor, as a data layer may."""

    def __init__(self, *sizes, **more):
        pass


def test_init_params_are_those_of_the_class_that_was_called():
    assert Three(10, var3=30).init_params == {"var1": 10, "var2": 2, "var3": 30}
    assert OneOfThree("hello").init_params == {"var2": "hello"}
    assert Silent(1, 2, key="value").init_params == {"sizes": (1, 2), "key": "value"}


def test_a_module_takes_no_arguments_that_its_class_does_not():
    class Bare(NeuralModule):
        pass

    with pytest.raises(TypeError):
        Bare(1)


def test_every_module_has_an_id_of_its_own():
    modules = [Three(), Three(), Silent(), TaylorNet(dim=2)]
    modules += [copy.deepcopy(module) for module in modules]
    ids = [module.unique_instance_id for module in modules]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(id_, str) for id_ in ids)
    assert ids == [module.unique_instance_id for module in modules]


def test_a_module_belongs_to_the_default_factory_of_its_birth():
    early = Silent()
    assert early.factory is NeuralModuleFactory.get_default_factory()  # made for it
    factory = NeuralModuleFactory(placement=DeviceType.CPU)
    late = TaylorNet(dim=2)
    assert late.factory is factory is not early.factory
    assert late.placement is DeviceType.CPU
    NeuralModuleFactory(placement=DeviceType.CPU)
    assert late.factory is factory


def test_a_copy_shares_no_factory_state(tmp_path):
    factory = NeuralModuleFactory(placement=DeviceType.CPU, log_dir=tmp_path, create_tb_writer=True)
    twin = copy.deepcopy(TaylorNet(dim=2))
    assert twin.factory is factory  # not a copy of its writer and files
    assert twin.init_params == {"dim": 2}


def test_modules_without_weights_are_not_trained():
    for module in (Three(), RealFunctionDataLayer(batch_size=1)):
        assert (module.is_trainable, module.num_weights) == (False, 0)
        assert str(module) == type(module).__name__
    assert (TaylorNet(dim=4).is_trainable, TaylorNet(dim=4).num_weights) == (True, 5)


def test_a_tensor_from_nowhere_can_be_wired_but_not_computed():
    x = NmTensor(producer=None, producer_args=None, name=None, ntype=NeuralType(("B", "D"), ChannelType()))
    net = TaylorNet(dim=4)
    y = net(x=x)
    assert y.producer is net
    assert y.producer_args == {"x": x}
    assert x.producer_args == {}
    assert x != NmTensor(ntype=NeuralType(("B", "D"), ChannelType()))
    with pytest.raises(NeuralTypeError, match=r"TaylorNet\.x takes ChannelType"):
        net(x=NmTensor(ntype=NeuralType(None, LossType())))
    with pytest.raises(NeuralTypeError, match="no module produces"):
        NeuralModuleFactory(placement=DeviceType.CPU).infer([y])


def test_producers_are_remembered():
    layer, net = RealFunctionDataLayer(n=100, batch_size=1), TaylorNet(dim=4)
    x, y = layer()
    assert (x.producer, x.producer_args, y.producer) == (layer, {}, layer)
    assert net(x=x).producer_args == {"x": x}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda net, x: net(x=5), "TaylorNet: cannot take these inputs; found x: int"),
        (lambda net, x: net(x="a text"), "found x: str, expected outputs of modules, or tensors"),
        (lambda net, x: net(x), r"passed by port name; expected TaylorNet\(x=...\)"),
        (lambda net, x: Three()(x=torch.zeros(1)), "expected outputs of modules$"),
        (lambda net, x: net.connect(x=torch.zeros(1)), "TaylorNet.x: symbolic and real inputs"),
    ],
)
def test_a_wrong_connection_is_a_type_error_that_names_the_port(call, says):
    x, _ = RealFunctionDataLayer(batch_size=1)()
    with pytest.raises(TypeError, match=says) as problem:
        call(TaylorNet(dim=4), x)
    assert isinstance(problem.value, NeuralTypeError)


def test_real_tensors_are_computed_with():
    net, x = TaylorNet(dim=4), torch.ones(2, 1)
    assert torch.equal(net(x), net(x=x))
    assert torch.equal(net(x), net(force_pt=True, x=x))


def test_the_type_system_has_one_address():
    names = {name: getattr(neural_types, name) for name in neural_types.__all__}  # what `import *` does
    assert names["NmTensor"] is NmTensor
    assert {"AxisKind", "AxisType", "NeuralType", "LossType", "NeuralPortNameMismatchError"} <= names.keys()
