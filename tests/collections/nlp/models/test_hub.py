"""Names of pretrained models: the cache first, then one question to the hub."""

import json
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch

from nemo.collections.nlp.data.tokenizers import NemoBertTokenizer
from nemo.collections.nlp.models.hub import find, load_config, load_tensors
from nemo.collections.nlp.nm.trainables.common.huggingface import BERT
from nemo.utils.errors import CheckpointError, MissingFileError, UsageError
from tests.huggingface_folders import SIZES, write_huggingface


@contextmanager
def hub_that_answers(status: int, code: str = ""):
    """A hub on this machine; gives its address and the files that it was asked for."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            if "/resolve/" in self.path:  # the client asks for other things, too
                requests.append(self.path)
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *args):
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", requests
        server.shutdown()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Sets where the hub is; the cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def set_address(address: str) -> None:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", address)
        template = "{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{template}")

    return set_address


def refusal(make) -> str:
    with pytest.raises((CheckpointError, UsageError)) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("strange", [{"use_cache": None}, {"dtype": "floatx"}, {"id2label": ["a"]}])
def test_a_setting_that_transformers_rejects_is_an_error_at_once(tmp_path, strange):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES, **strange}))
    with pytest.raises(UsageError, match=rf"^{tmp_path}: not a BERT configuration; found ."):
        load_config(str(tmp_path))


@pytest.mark.parametrize("make", [BERT, NemoBertTokenizer, load_config])
def test_a_hub_that_is_busy_is_asked_once(hub, make):
    """transformers would ask six times, and wait longer and longer."""
    with hub_that_answers(503) as (address, requests):
        hub(address)
        assert "not in the cache, and the hub answered: " in refusal(lambda: make("nobody/no-such-bert"))
    assert requests == ["/nobody/no-such-bert/resolve/main/config.json"]


def test_an_unreachable_hub_is_an_error(hub):
    with hub_that_answers(200) as (address, _):
        pass  # nobody is there any more
    hub(address)
    assert f"not in the cache, and {address} cannot be reached" in refusal(
        lambda: BERT("nobody/no-such-bert")
    )


def test_an_unknown_name_is_an_error(hub):
    with hub_that_answers(404, "RepoNotFound") as (address, _):
        hub(address)
        assert "not in the cache, and the hub answered: 404" in refusal(lambda: BERT("nobody/no-such-bert"))


def test_a_name_of_nemo_0_10_is_asked_for_as_the_hub_has_it(hub):
    with hub_that_answers(503) as (address, requests):
        hub(address)
        refusal(lambda: BERT("bert-base-uncased"))
    assert requests == ["/google-bert/bert-base-uncased/resolve/main/config.json"]


def test_a_mistyped_folder_is_a_missing_folder(hub, tmp_path):
    (tmp_path / "my_bert").mkdir()
    with hub_that_answers(503) as (address, _), pytest.raises(MissingFileError) as refused:
        hub(address)
        BERT(str(tmp_path / "my_bret"))
    assert "no such folder" in str(refused.value)
    assert f"did you mean {tmp_path / 'my_bert'}?" in str(refused.value)


@pytest.mark.parametrize("name", ["no/such/folder", "../no/bert"])
def test_an_invalid_name_is_not_requested_from_the_hub(hub, name):
    with hub_that_answers(503) as (address, requests):
        hub(address)
        assert "not a folder, and not a valid hub name" in refusal(lambda: BERT(name))
    assert not requests


@pytest.mark.slow
def test_a_folder_is_not_looked_up_on_the_hub(hub, tmp_path):
    with hub_that_answers(503) as (address, requests):
        hub(address)
        assert "no weights of a pretrained BERT" in refusal(lambda: BERT(str(tmp_path)))
    assert not requests


def test_the_cache_is_tried_before_the_hub(hub):
    tried = []

    def load(place: str, local_only: bool) -> str:
        tried.append((place, local_only))
        if local_only:
            raise OSError
        return place

    with hub_that_answers(404, "EntryNotFound") as (address, _):  # there is a model, without this one file
        hub(address)
        assert find("bert-base-german-dbmdz-cased", load) == "dbmdz/bert-base-german-cased"
    assert tried == [
        ("bert-base-german-dbmdz-cased", True),
        ("dbmdz/bert-base-german-cased", True),
        ("dbmdz/bert-base-german-cased", False),
    ]


@pytest.mark.slow
def test_pretrained_models_are_listed_without_transformers():
    script = (
        "import sys; import nemo.collections.nlp as nemo_nlp;"
        "assert len(nemo_nlp.huggingface.BERT.list_pretrained_models()) == 22;"
        "heavy = {'transformers', 'huggingface_hub'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def weights_of(folder) -> dict[str, torch.Tensor]:
    return load_tensors(str(folder))


def assert_same_weights(found, model):
    expected = {name: tensor for name, tensor in model.state_dict().items() if name in found}
    assert len(expected) >= 40
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_weights_that_are_spread_over_files_are_all_read(tmp_path):
    model = write_huggingface(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "bert", max_shard_size="5KB")
    assert len(list((tmp_path / "bert").glob("model-*-of-*.safetensors"))) > 3
    assert_same_weights(weights_of(tmp_path / "bert"), model)


def test_a_file_that_is_missing_among_several_is_named(tmp_path):
    model = write_huggingface(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "bert", max_shard_size="5KB")
    missing = sorted((tmp_path / "bert").glob("model-*"))[1]
    missing.unlink()
    with pytest.raises(CheckpointError, match=f"some of its files are missing; found no {missing.name}"):
        weights_of(tmp_path / "bert")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": [3]}}',
        '{"weight_map": {"a": "../elsewhere/model.safetensors"}}',
    ],
)
def test_an_index_of_another_form_is_damaged(tmp_path, content):
    write_huggingface(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    (tmp_path / "bert" / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json: damaged"):
        weights_of(tmp_path / "bert")


def test_a_folder_of_2018_is_read(tmp_path):
    """Its configuration has an underscore and no model_type, its norms have gamma and beta."""
    model = write_huggingface(tmp_path / "bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in model.state_dict().items()
        if name != "cls.predictions.decoder.bias"
    }
    torch.save(old, tmp_path / "bert" / "pytorch_model.bin")
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    sizes = {name: config[name] for name in (*SIZES, "hidden_act", "type_vocab_size")}
    (tmp_path / "bert" / "bert_config.json").write_text(json.dumps(sizes))
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "bert" / name).unlink()
    assert_same_weights(weights_of(tmp_path / "bert"), model)
    assert load_config(str(tmp_path / "bert")).hidden_size == SIZES["hidden_size"]


def test_weights_under_another_name_are_named(tmp_path):
    write_huggingface(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").rename(tmp_path / "bert" / "ckpt_8601.pt")
    with pytest.raises(
        CheckpointError,
        match=r"no weights of a pretrained BERT; found ckpt_8601\.pt.*fix: name the file: .*8601",
    ):
        weights_of(tmp_path / "bert")
