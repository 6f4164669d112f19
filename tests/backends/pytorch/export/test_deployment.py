"""Modules as files for other programs."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import nemo
from nemo.backends.pytorch.export.deployment import export_module
from nemo.backends.pytorch.nm import TrainableNM
from nemo.backends.pytorch.tutorials import RealFunctionDataLayer, TaylorNet
from nemo.collections.nlp.nm.trainables import BertTokenClassifier, TokenClassifier
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.core import (
    ChannelType,
    DeploymentFormat,
    DeviceType,
    NeuralModule,
    NeuralModuleFactory,
    NeuralType,
    WeightShareTransform,
)
from nemo.utils.errors import NemoError, UsageError

PYTORCH, TORCHSCRIPT, TORCH_EXPORT, ONNX, TRTONNX = (
    DeploymentFormat[name] for name in ("PYTORCH", "TORCHSCRIPT", "TORCH_EXPORT", "ONNX", "TRTONNX")
)
VOCAB = 30
OUR_PLACE = str(Path(nemo.__file__).parent).encode()


def bert():
    return BERT(
        vocab_size=VOCAB,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )


def bert_inputs(batch, tokens):
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    mask[0, tokens // 2 :] = 0
    return (
        torch.randint(0, VOCAB, (batch, tokens)),
        torch.randint(0, 2, (batch, tokens)),
        mask,
    )


MODULES = {
    "TaylorNet": (lambda: TaylorNet(dim=4), lambda batch, tokens: (torch.randn(batch, 1),)),
    "TokenClassifier": (
        lambda: TokenClassifier(8, 3, dropout=0.5),
        lambda batch, tokens: (torch.randn(batch, tokens, 8),),
    ),
    "BERT": (bert, bert_inputs),
}


def run_file(path, d_format, inputs):
    """What a program that knows nothing of us gets out of a file."""
    if d_format is TORCHSCRIPT:
        return torch.jit.load(path)(*inputs)
    if d_format is TORCH_EXPORT:
        return torch.export.load(path).module()(*inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return torch.from_numpy(session.run(None, {n: i.numpy() for n, i in zip(names, inputs, strict=True)})[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    "d_format",
    [TORCHSCRIPT, *(pytest.param(slow, marks=pytest.mark.slow) for slow in (TORCH_EXPORT, ONNX))],
)
def test_an_exported_module_computes_the_same_at_any_size(tmp_path, name, d_format):
    make, inputs_of = MODULES[name]
    module = make()
    path = tmp_path / "exported"
    export_module(module, path, d_format, input_example=inputs_of(1, 7))
    module.eval()
    for batch, tokens in ((1, 7), (3, 11), (5, 2)):
        inputs = inputs_of(batch, tokens)
        with torch.no_grad():
            expected = module(*inputs)
        torch.testing.assert_close(run_file(path, d_format, inputs), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_onnx_file_names_ports_and_axes_and_no_local_path(tmp_path):
    import onnx

    export_module(TokenClassifier(8, 3), tmp_path / "a.onnx", input_example=torch.randn(4, 4, 8))
    (given,), (made,) = (getattr(onnx.load(tmp_path / "a.onnx").graph, side) for side in ("input", "output"))
    axes = [[d.dim_param or d.dim_value for d in port.type.tensor_type.shape.dim] for port in (given, made)]
    assert (given.name, made.name) == ("hidden_states", "logits")
    assert axes == [["batch", "time", 8], ["batch", "time", 3]]
    assert OUR_PLACE not in (tmp_path / "a.onnx").read_bytes()
    export_module(TokenClassifier(8, 3), tmp_path / "a.trt.onnx", TRTONNX, torch.randn(4, 4, 8))
    assert run_file(tmp_path / "a.trt.onnx", ONNX, (torch.randn(2, 3, 8),)).shape == (2, 3, 3)


@pytest.mark.slow
def test_a_torch_export_file_holds_no_example_and_no_local_path(tmp_path):
    path = export_module(TaylorNet(dim=2), tmp_path / "a.pt2", input_example=torch.randn(4, 1))
    assert torch.export.load(path).example_inputs is None
    assert OUR_PLACE not in path.read_bytes()


def test_weights_are_read_by_torch_alone(tmp_path):
    net = TaylorNet(dim=4)
    net.freeze()
    export_module(net, tmp_path / "net.pt", PYTORCH, torch.randn(4, 1))
    weights = torch.load(tmp_path / "net.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    params = json.loads((tmp_path / "net.pt.json").read_text())
    assert params == {"dim": 4}
    other = TaylorNet(**params)
    other.restore_from(tmp_path / "net.pt")
    other.load_state_dict(weights)


@pytest.mark.parametrize(
    ("suffix", "loads", "kind"),
    [
        (".pt", torch.load, dict),
        (".ts", torch.jit.load, torch.jit.ScriptModule),
        pytest.param(".pt2", torch.export.load, torch.export.ExportedProgram, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_suffix_chooses_the_format(tmp_path, suffix, loads, kind):
    path = export_module(TaylorNet(dim=2), tmp_path / f"net{suffix}", input_example=torch.randn(4, 1))
    assert isinstance(loads(path), kind)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_source_is_compiled_where_there_is_no_example(tmp_path):
    net = TaylorNet(dim=3)
    export_module(net, tmp_path / "net.ts")
    x = torch.randn(5, 1)
    assert torch.allclose(torch.jit.load(tmp_path / "net.ts")(x), net(x))


TO_EMBEDDINGS = {
    "mlp.last_linear_layer.weight": ("bert.embeddings.word_embeddings.weight", WeightShareTransform.SAME),
}


def test_export_does_not_change_the_module_or_its_class(tmp_path):
    encoder, head, other = bert(), BertTokenClassifier(8, VOCAB), bert()
    head.tie_weights_with(encoder, list(TO_EMBEDDINGS), TO_EMBEDDINGS)
    encoder.train()
    before, own = copy.deepcopy(encoder.state_dict()), dict(vars(encoder))
    call, forward, parameters = BERT.__call__, BERT.forward, list(encoder.parameters())
    export_module(encoder, tmp_path / "bert.ts", input_example=bert_inputs(2, 5))
    assert (BERT.__call__, BERT.forward, vars(encoder)) == (call, forward, own)
    assert encoder.training
    assert all(ours is was for ours, was in zip(encoder.parameters(), parameters, strict=True))
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert head.mlp.last_linear_layer.weight is encoder.bert.embeddings.word_embeddings.weight
    for model in (encoder, other):
        assert model(*bert_inputs(2, 5)).shape == (2, 5, 8)


class TwoWays(TrainableNM):
    """With a port of each side that an exported module does without."""

    input_ports = {
        "x": NeuralType(("B", "D"), ChannelType()),
        "noise": NeuralType(("B", "D"), ChannelType()),
        "scale": NeuralType(("B",), ChannelType(), optional=True),
    }
    output_ports = {
        "loss": NeuralType(("B", "D"), ChannelType()),
        "y": NeuralType(("B", "D"), ChannelType()),
    }

    @property
    def _disabled_deployment_input_ports(self):
        return {"noise"}

    @property
    def _disabled_deployment_output_ports(self):
        return {"loss"}

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x, noise=None, scale=None):
        y = self.linear(x) if scale is None else self.linear(x) * scale[:, None]
        return y.sum(-1), y


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("by_name", [True, False])
def test_disabled_ports_are_left_out(tmp_path, by_name):
    module, x, scale = TwoWays(), torch.randn(3, 2), torch.randn(3)
    example = {"scale": scale, "x": x} if by_name else (x, scale)
    path = export_module(module, tmp_path / "two.ts", input_example=example)
    assert torch.equal(torch.jit.load(path)(x, scale), module(x, None, scale)[1])
    all_ports = export_module(module, tmp_path / "all.ts", input_example=(x, x, scale))
    assert torch.equal(torch.jit.load(all_ports)(x, scale), module(x, None, scale)[1])


class Deciding(TrainableNM):
    """Does other things with many samples: a recording of a few cannot know."""

    input_ports = {"x": NeuralType(("B", "D"), ChannelType())}
    output_ports = {"y": NeuralType(("B", "D"), ChannelType())}

    def forward(self, x):
        return x + 1 if len(x) > 4 else x


def test_a_file_that_computes_something_else_is_not_written(tmp_path):
    with pytest.raises(
        UsageError, match=r"TorchScript model gives different results; found a difference of 1 for"
    ):
        export_module(Deciding(), tmp_path / "net.ts", input_example=torch.randn(4, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("d_format", [PYTORCH, TORCHSCRIPT, ONNX])
def test_no_file_is_overwritten(tmp_path, d_format):
    path = tmp_path / "net"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="net: already exists"):
        export_module(TaylorNet(dim=2), path, d_format, torch.randn(2, 1))
    assert path.read_text() == "mine"


def test_no_parameter_file_is_overwritten(tmp_path):
    (tmp_path / "net.pt.json").write_text("mine")
    with pytest.raises(FileExistsError, match=r"net\.pt\.json: already exists"):
        export_module(TaylorNet(dim=2), tmp_path / "net.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt.json"]


@pytest.mark.parametrize(
    ("make", "file", "d_format", "example", "says"),
    [
        (lambda: TaylorNet(2), "net.bin", DeploymentFormat.AUTO, None, "unknown suffix"),
        (lambda: TaylorNet(2), "net", "ONNX", None, "d_format: unknown format; found 'ONNX'"),
        (lambda: TaylorNet(2), "none/net.pt", PYTORCH, None, "none: no such folder"),
        (
            lambda: RealFunctionDataLayer(1),
            "net.pt",
            PYTORCH,
            None,
            "RealFunctionDataLayer: cannot be exported",
        ),
        (lambda: TaylorNet(2), "net.onnx", ONNX, None, "found nothing, expected tensors for x of TaylorNet"),
        (lambda: TaylorNet(2), "net.onnx", ONNX, (torch.ones(1, 1),) * 2, "more tensors than ports; found 2"),
        (
            lambda: TaylorNet(2),
            "net.ts",
            TORCHSCRIPT,
            {"y": torch.ones(1, 1)},
            "does not match the ports; found y",
        ),
        (lambda: TaylorNet(2), "net.ts", TORCHSCRIPT, {"x": 1}, "found x: int"),
        (
            lambda: bert(),
            "net.ts",
            TORCHSCRIPT,
            None,
            "cannot be exported to TorchScript; .*pass an input_example",
        ),
        (
            lambda: TaylorNet(2),
            "net.ts",
            TORCHSCRIPT,
            torch.ones(2, 1, 3, 3),
            "cannot be exported to TorchScript",
        ),
        (lambda: bert(), "net.ts", TORCHSCRIPT, bert_inputs(2, 18), "sequences are longer than the model"),
        (
            lambda: TokenClassifier(2, 2, activation=torch.atan),
            "net.pt",
            PYTORCH,
            None,
            "init_params.activation: cannot be written",
        ),
    ],
)
def test_a_failed_export_names_the_reason_and_leaves_no_file(tmp_path, make, file, d_format, example, says):
    with pytest.raises(NemoError, match=says) as problem:
        export_module(make(), tmp_path / file, d_format, example)
    assert "\n" not in str(problem.value)
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(
        UsageError, match=r"needs the package onnxscript; fix: pip install 'nemo-bert\[onnx\]'"
    ):
        export_module(TaylorNet(dim=2), tmp_path / "net.onnx", input_example=torch.randn(2, 1))


def test_an_exported_module_can_be_rebuilt(tmp_path):
    """The weights' file and a configuration are a module."""
    net = TokenClassifier(hidden_size=4, num_classes=2)
    net.export_to_config(tmp_path / "net.yml")
    export_module(net, tmp_path / "net.pt")
    again = NeuralModule.import_from_config(tmp_path / "net.yml")
    again.restore_from(tmp_path / "net.pt")
    x = torch.randn(1, 2, 4)
    assert torch.equal(again(x), net(x))


def test_the_factory_exports_as_nemo_0_10_did(tmp_path):
    factory = NeuralModuleFactory(placement=DeviceType.CPU)
    net, x = TaylorNet(dim=4), torch.randn(4, 1)
    factory.deployment_export(
        module=net, output=str(tmp_path / "net.pt"), input_example=x, d_format=PYTORCH, output_example=net(x)
    )
    other = TaylorNet(dim=4)
    other.restore_from(str(tmp_path / "net.pt"))
    assert torch.equal(other(x), net(x))
