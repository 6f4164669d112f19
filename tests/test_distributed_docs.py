"""The page on several processes: its commands run, with tiny sizes and fewer processes on this one machine.

There is no Slurm here: sbatch, srun and scontrol are programs that do on one machine what they would on two.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.conftest import PATIENCE, write_english
from tests.distributed.launching import free_port
from tests.documents import ROOT, blocks

ENGLISH, CHINESE = "docs/distributed.md", "docs/distributed_zh.md"
TINY = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_seq_length": 32,
    "num_iters": 4,
    "eval_step_freq": 2,
    "save_step_freq": 2,
}
STAND_INS = {
    "sbatch": """#!/bin/bash
# As a job of two nodes; the options in front of the script are those that Slurm would heed.
while [[ $1 == --* ]]; do shift; done
export SLURM_JOB_ID=$$ SLURM_JOB_NUM_NODES=2 SLURM_JOB_NODELIST=node[1-2] SLURM_GPUS_ON_NODE=1
export SLURM_SUBMIT_DIR=$PWD
exec bash "$@"
""",
    "scontrol": '#!/bin/bash\n[[ "$*" == "show hostnames node[1-2]" ]] && echo localhost && echo node2\n',
    "srun": """#!/bin/bash
# A task on each node, both of which are this machine.
while [[ $1 == --* ]]; do shift; done
"$@" & first=$!
"$@"
second=$?
wait $first && exit $second
""",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A working folder like the root of a checkout, with the text and bert.yaml of the page, made tiny."""
    folder = tmp_path_factory.mktemp("distributed_docs")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("outputs"))
    write_english(folder / "data" / "wikitext-2")
    options, _ = blocks(ENGLISH, "yaml")
    (folder / "bert.yaml").write_text(tiny(options.code))
    for name, source in STAND_INS.items():
        (folder / name).write_text(source)
        (folder / name).chmod(0o755)
    return folder


def tiny(text: str) -> str:
    """The same options or command with the values of `TINY`."""
    for name, value in TINY.items():
        text = re.sub(rf"\b{name}(:? )\S+", rf"{name}\g<1>{value}", text)
    return text


def the_command(part: str) -> str:
    """The one command of the page that contains this."""
    (found,) = [block.code for block in blocks(ENGLISH, "bash") if part in block.code]
    return found


def start(checkout: Path, command: str) -> subprocess.Popen:
    path = f"{checkout}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=checkout,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(checkout: Path, commands: Mapping[str, str]) -> dict[str, str]:
    """What commands print that run at the same time; none of them may fail."""
    started = {name: start(checkout, tiny(command)) for name, command in commands.items()}
    try:
        told = {name: process.communicate(timeout=PATIENCE)[0] for name, process in started.items()}
    finally:
        for process in started.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    failed = [name for name, process in started.items() if process.returncode]
    assert not failed, told[failed[0]]
    return told


@pytest.fixture(scope="module")
def told(checkout) -> dict[str, str]:
    """What the page's commands print, by work folder: the first one, then all the others at once."""
    first = run(checkout, {"two": the_command("--standalone")})
    machine = the_command("node1:29500").replace("nproc_per_node=8", "nproc_per_node=1")
    machine = machine.replace("node1:29500", f"localhost:{free_port()}")
    others = {
        "launched": the_command("torch.distributed.launch"),
        "mine": machine,
        "mine, the other machine": machine,
        "slurm": the_command("sbatch"),
        "two again": the_command("--batch_size").replace("--num_iters 2000", "--num_iters=6"),
    }
    return {**first, **run(checkout, others)}


def checkpoints(checkout: Path, work_dir: str) -> list[str]:
    return sorted(path.name for path in (checkout / "outputs" / work_dir / "checkpoints").glob("STEP-*"))


@pytest.mark.slow
def test_every_command_trains(told, checkout):
    assert len(blocks(ENGLISH, "bash")) == 5  # or there are others, which nobody has run
    told["mine"] += told.pop("mine, the other machine")
    for work_dir in ("two", "launched", "mine", "slurm"):
        assert told[work_dir].count("2 processes train together") == 1
        assert checkpoints(checkout, work_dir)[:2] == ["STEP-2", "STEP-4"]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(told, checkout):
    assert "processes 1 instead of 2: same samples and masks" in told["two again"]
    assert "restarting the epoch" not in told["two again"]
    assert checkpoints(checkout, "two") == ["STEP-2", "STEP-4", "STEP-6"]


def test_the_job_script_is_bash():
    script = ROOT / "examples" / "nlp" / "scripts" / "pretrain.sbatch"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    directives, _ = script.read_text().split("\nset -euo pipefail\n")
    assert all(line.startswith("#") for line in directives.splitlines())  # or Slurm would heed no more


def test_the_pods_run_the_command_of_several_machines():
    _, manifest = blocks(ENGLISH, "yaml")
    service, job = yaml.safe_load_all(manifest.code)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    expected = the_command("node1:29500").replace("\\\n", "").replace("node1:", "bert-0.bert:").split()
    assert words == [words[0], *expected[1:]]
    # What the name of the first pod is made of.
    assert job["metadata"]["name"] == service["spec"]["selector"]["job-name"] == "bert"
    assert service["metadata"]["name"] == job["spec"]["template"]["spec"]["subdomain"] == "bert"
    assert f"--nnodes={job['spec']['completions']}" in words


def test_both_pages_have_the_same_code_and_the_same_sections():
    for language in ("bash", "yaml"):
        assert [b.code for b in blocks(ENGLISH, language)] == [b.code for b in blocks(CHINESE, language)]

    def levels(page: str) -> list[str]:
        text = (ROOT / page).read_text(encoding="utf-8")
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        return re.findall(r"^(?:#+(?= )|- |\|)", prose, re.MULTILINE)

    assert levels(ENGLISH) == levels(CHINESE)
