"""What is handed out: the wheel, the Dockerfile, the license, and how to cite it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import nemo
from nemo.cli.main import COMMANDS, main
from tests.conftest import PATIENCE
from tests.documents import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]


def run(*words, cwd=None):
    # A PYTHONPATH would put the checkout before what is installed.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [*map(str, words)]
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def of_docker(instruction):
    return [rest for name, rest in DOCKERFILE if name == instruction]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What the Dockerfile copies into the image, and nothing else."""
    folder = tmp_path_factory.mktemp("source")
    for rest in of_docker("COPY"):
        *names, target = rest.split()
        for name in names:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / target, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / target)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, source)
    (path,) = folder.iterdir()
    return path


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"nemo-bert {nemo.__version__}\n"


def test_the_license_file_and_metadata_are_apache_2():
    text = " ".join((ROOT / "LICENSE").read_text().split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_it_can_be_cited():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    # What the schema of the Citation File Format 1.2.0 requires.
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"] and citation["title"]
    assert citation["authors"] and all(
        author.keys() & {"name", "family-names"} for author in citation["authors"]
    )
    assert (citation["type"], citation["license"]) == ("software", PROJECT["project"]["license"])
    assert citation["version"] == nemo.__version__


@pytest.mark.slow
def test_the_wheel_has_all_that_is_needed(wheel):
    assert wheel.name == f"nemo_bert-{nemo.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (license,) = (name for name in names if name.endswith("dist-info/licenses/LICENSE"))
        assert archive.read(license) == (ROOT / "LICENSE").read_bytes()
    files = {
        path for path in (ROOT / "nemo").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    missing = {str(path.relative_to(ROOT)) for path in files} - names
    assert not missing
    assert {name.split("/")[0] for name in names} == {"nemo", f"nemo_bert-{nemo.__version__}.dist-info"}


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    # What it depends on is that of this environment; of ours only what is in the wheel.
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(ours))
    pip = (sys.executable, "-m", "pip", "--python", environment / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel)

    program = environment / "bin" / "nemo-bert"
    assert run(program, "--version", cwd=tmp_path) == f"nemo-bert {nemo.__version__}\n"
    where = run(environment / "bin" / "python", "-c", "import nemo; print(nemo.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment)
    sizes = ("--vocab_size", 1000, "--hidden_size", 64, "--num_hidden_layers", 2, "--max_seq_length", 64)
    told = run(program, "demo", "--num_iters", 20, *sizes, cwd=tmp_path)
    assert "below unigram" in told
    assert json.loads((tmp_path / "outputs" / "demo" / "status.json").read_text())["state"] == "finished"
    assert (tmp_path / "outputs" / "demo" / "export" / "model.safetensors").is_file()


def test_the_image_runs_the_demo_on_the_python_of_the_tests():
    assert of_docker("FROM") == ["python:{}.{}-slim".format(*sys.version_info)]
    assert json.loads(of_docker("ENTRYPOINT")[0]) == list(PROJECT["project"]["scripts"])
    (command,) = json.loads(of_docker("CMD")[0])
    assert command == "demo" and command in COMMANDS
    classifiers = PROJECT["project"]["classifiers"]
    assert [c for c in classifiers if "3." in c] == ["Programming Language :: Python :: 3.11"]


@pytest.mark.slow
def test_what_the_image_installs_resolves_from_what_it_copies(source):
    (install,) = (rest for rest in of_docker("RUN") if rest.startswith("pip install"))
    words = re.sub(r"--extra-index-url \S+|--no-cache-dir", "", install).split()[1:]
    # Everything is installed here, in the versions of the constraints: pip has only to agree.
    told = run(
        sys.executable, "-m", "pip", *words, "--dry-run", "--no-index", "--no-build-isolation", cwd=source
    )
    assert f"Would install nemo-bert-{nemo.__version__}" in told or "already satisfied" in told
