"""The tutorial, top to bottom: both pages, their commands, and the notebook; with the sizes of `TINY`."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import transformers

from nemo.collections.nlp.data.tokenizers.vocabulary import train_tokenizer
from tests.conftest import PATIENCE, SHARED_DATA, write_wikitext
from tests.distributed.launching import free_port
from tests.documents import ROOT, Block, blocks, run_python
from tests.notebooks import run_notebook

ENGLISH, CHINESE = "docs/tutorials/bert_pretraining.md", "docs/tutorials/bert_pretraining_zh.md"
MAKER = runpy.run_path(str(ROOT / "docs" / "make_notebook.py"))
PAGES = MAKER["PAGES"]

TINY = {
    "vocab_size": 300,
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_seq_length": 32,
    "batch_size": 16,
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """The working folder: like the root of a checkout, with wikitext-2-v1.zip beside it."""
    texts = write_wikitext(tmp_path / "texts")
    with zipfile.ZipFile(tmp_path / "wikitext-2-v1.zip", "w") as archive:
        for part in ("train", "valid", "test"):
            archive.write(texts / f"{part}.txt", f"wikitext-2/wiki.{part}.tokens")
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "examples", root / "examples", ignore=shutil.ignore_patterns("outputs"))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def with_corpus(checkout) -> Path:
    """The same, the corpus fetched."""
    write_wikitext(checkout / "data" / "wikitext-2")
    return checkout


def run_page(page: str, work_dir: str = "outputs/tutorial", **settings: Any) -> dict[str, Any]:
    """Run the program on a page, tiny and with other settings; returns its variables."""
    told: dict[str, Any] = {}
    defaults, *rest = blocks(page, "python")
    run_python([defaults], told)
    vars(told["args"]).update({**TINY, **settings})
    told["work_dir"] = work_dir
    run_python(rest, told)
    return told


def run_bash(block: Block) -> subprocess.CompletedProcess[str]:
    """Run a block in the working folder, with tiny sizes, few steps and no network, and no server left."""
    script = block.code.replace("get_wkt2.sh", "get_wkt2.sh --zip ../wikitext-2-v1.zip --sha256 none")
    script = script.replace("tensorboard ", "tensorboard --inspect ")
    for option, value in {**TINY, "num_iters": 4, "eval_step_freq": 2}.items():
        script = re.sub(rf"--{option} \d+", f"--{option} {value}", script)
    tiny = " ".join(f"--{option} {value}" for option, value in {**TINY, "num_iters": 4}.items())
    script = script.replace("--num_gpus=2", f"--num_gpus=2 {tiny} --work_dir outputs/two_processes")
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PET_MASTER_PORT": str(free_port()),  # where the launcher's is not given
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def held_out(log: str, figure: str) -> list[float]:
    """A figure of every evaluation that was logged."""
    return [float(value) for value in re.findall(rf"Dev {figure}: ([\d.]+)", log)]


def last_step(work_dir: str) -> int:
    """How many steps the newest checkpoint of a run holds."""
    folders = Path(work_dir, "checkpoints").glob("STEP-*")
    return max(int(folder.name.removeprefix("STEP-")) for folder in folders)


def write_wiki_zh(folder: Path) -> None:
    """Some of the shared Chinese text in the layout of wiki2019zh, or made-up text."""
    if SHARED_DATA.is_dir():
        lines = (SHARED_DATA / "wiki_zh" / "AA" / "wiki_00").read_text(encoding="utf-8").splitlines()[:80]
    else:
        sentences = [
            f"{who}{does}{what}。" for who in "我你他她" for does in "看写买读" for what in "书信报诗"
        ]
        documents = ["".join(sentences[i::7]) for i in range(7)] * 10
        lines = [json.dumps({"text": document}, ensure_ascii=False) for document in documents]
    folder.mkdir(parents=True)
    (folder / "wiki_00").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_pretrained_bert(folder: Path, text: Path) -> None:
    """A Hugging Face folder with a model, 24 wide, and its tokenizer."""
    tokenizer = train_tokenizer("word-piece", [text], folder.with_suffix(".vocabulary"), vocab_size=200)
    tokenizer.to_huggingface().save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
    )
    transformers.BertForPreTraining(config).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("page", [ENGLISH, CHINESE])
def test_the_program_on_the_page_trains(page, with_corpus, capsys):
    told = run_page(page)
    log = capsys.readouterr().out
    before, after = held_out(log, "MLM loss")
    assert after < before - 0.5
    assert len(held_out(log, "NSP accuracy")) == 2
    assert "Loss: " in log
    assert last_step("outputs/tutorial") == told["steps_per_epoch"]
    config = json.loads(Path("outputs/tutorial/checkpoints/bert-config.json").read_text())
    assert config["vocab_size"] == told["tokenizer"].vocab_size


@pytest.mark.slow
def test_the_script_trains_on_shards_and_resumes_from_load_dir(with_corpus, capsys):
    run_page(ENGLISH, num_iters=1, num_epochs=None)  # which makes the tokenizer
    (prepare,) = [block for block in blocks(ENGLISH, "bash") if block.code.startswith("nemo-bert prepare")]
    done = run_bash(prepare)
    assert done.returncode == 0, done.stdout + done.stderr
    on_shards = {"preprocessed_data": True, "max_seq_length": 128, "num_epochs": None}
    capsys.readouterr()
    run_page(ENGLISH, "outputs/shards", num_iters=3, **on_shards)
    assert last_step("outputs/shards") == 3
    log = capsys.readouterr().out
    assert re.search(r"^input_ids \(\d+, 128\) int32$", log, re.MULTILINE)
    assert re.search(r"^shown: \[CLS\] .*\[MASK\].* \[SEP\]$", log, re.MULTILINE)
    load_dir = "outputs/shards/checkpoints"
    run_page(ENGLISH, "outputs/second", num_iters=5, load_dir=load_dir, **on_shards)
    assert last_step("outputs/second") == 5
    log = capsys.readouterr().out
    assert f"resuming from {load_dir}/STEP-3" in log
    assert len(held_out(log, "NSP loss")) == 1  # at the end, as the start was evaluated by the first run


@pytest.mark.slow
def test_the_script_continues_a_pretrained_model(with_corpus):
    write_pretrained_bert(Path("mine"), Path("data/wikitext-2/train.txt"))
    told = run_page(ENGLISH, pretrained_model_name="mine", only_mlm_loss=True, num_iters=2, num_epochs=None)
    assert told["bert_model"].config.hidden_size == told["args"].hidden_size == 24
    assert told["eval_nsp_loss"] is None
    assert last_step("outputs/tutorial") == 2


@pytest.mark.slow
def test_every_command_runs(checkout, capsys):
    """Python and bash in the order of the page: what a block leaves behind, a later one needs."""
    write_wiki_zh(checkout / "wiki_zh" / "AA")
    told: dict[str, Any] = {}
    for number, block in enumerate(blocks(ENGLISH, "python", "bash")):
        if block.language == "python":
            run_python([block], told)
            if number == 0:
                vars(told["args"]).update(TINY)
        else:
            done = run_bash(block)
            assert done.returncode == 0, done.stdout + done.stderr

    assert last_step("examples/nlp/language_modeling/outputs/bert_lm") == 4
    assert last_step("examples/nlp/language_modeling/outputs/from_tokens") == 4
    assert last_step("examples/nlp/language_modeling/outputs/from_shards") == 4
    two_processes = Path("examples/nlp/language_modeling/outputs/two_processes")
    assert last_step(two_processes) == 4
    assert (
        json.loads((two_processes / "checkpoints/STEP-4/state.json").read_text())["environment"]["processes"]
        == 2
    )

    capsys.readouterr()
    told = run_page(ENGLISH, "outputs/chinese", data_dir="wiki_zh", num_iters=20, num_epochs=None)
    assert told["data_desc"].tokenizer_model is None
    before, after = held_out(capsys.readouterr().out, "MLM loss")
    assert after < before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_both_languages_have_the_same_code_and_the_same_steps(page):
    chinese = page.with_stem(f"{page.stem}_zh")
    for language in ("python", "bash"):
        assert [b.code for b in blocks(page, language)] == [b.code for b in blocks(chinese, language)]

    def levels(page: Path) -> list[str]:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        return re.findall(r"^#+(?= )", prose, re.MULTILINE)

    assert levels(page) == levels(chinese)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_notebook_is_the_page(page):
    notebook = page.with_suffix(".ipynb").read_text(encoding="utf-8")
    made = MAKER["text_of"](MAKER["notebook_of"](page.read_text(encoding="utf-8")))
    assert notebook == made, "run python docs/make_notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(with_corpus, monkeypatch):
    tiny = f"vars(args).update({TINY})"
    printed = run_notebook("bert_pretraining.ipynb", with_corpus, "args = Simple", tiny, monkeypatch)
    assert last_step("outputs/tutorial") > 0
    before, after = held_out("".join(printed), "MLM loss")
    assert after < before
