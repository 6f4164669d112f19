"""However many workers prepare a text, by whatever engine, the result is the same."""

import os
import shutil
import sys

import pytest

from nemo.cli.main import main
from tests.cli.outcome import error_of
from tests.collections.nlp.preparation.conftest import command, contents, start
from tests.conftest import PATIENCE


@pytest.mark.slow
def test_workers_order_of_files_hash_seed_and_locale_leave_no_trace(undisturbed, corpus, tmp_path):
    other = tmp_path / "text"
    other.mkdir()
    for number in (2, 0, 3, 1):
        shutil.copy(corpus / "text" / f"{number}.txt", other)
    words = command(corpus, tmp_path / "out", "--workers", "2")
    words[1] = str(other)
    run = start(words, PYTHONHASHSEED="5", LC_ALL="C")
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, told
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
def test_ray_makes_the_same_with_little_memory(undisturbed, corpus, tmp_path):
    """By itself it maps 30% of the machine's memory, twice, and never ends where it may not."""
    pytest.importorskip("ray")
    words = command(corpus, tmp_path / "out", "--engine", "ray", "--workers", "2")
    run = start(words, address_space=4 << 30)
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, told
    assert contents(tmp_path / "out") == contents(undisturbed)


@pytest.mark.slow
def test_an_unreachable_ray_is_an_error_at_once(corpus, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert main(command(corpus, tmp_path / "out", "--engine", "ray")) == 2
    assert "RAY_ADDRESS=127.0.0.1:1: no Ray cluster responds at this address; found" in error_of(capsys)


SBATCH = """#!{python}
# What sbatch does, at once and on this machine: runs the script for each number of the array.
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
open({log!r}, "a").write(" ".join(sys.argv[1:-1]) + chr(10) + script)
last = re.search(r"--array=0-([0-9]+)", script)
for number in range(int(last[1]) + 1 if last else 1):
    array = dict(SLURM_ARRAY_TASK_ID=str(number)) if last else dict()
    environment = dict(os.environ, RUN_OFFSET="0", SLURM_NODELIST="here", **array)
    if subprocess.run(["bash", sys.argv[-1]], env=environment, stdout=2).returncode:
        sys.exit(0)  # the job fails later, as far as who submits it knows
print("Submitted batch job", 1 + len(re.findall("#!/bin/bash", open({log!r}).read())))
"""


@pytest.mark.slow
def test_slurm_jobs_wait_for_one_another_and_make_the_same(undisturbed, corpus, tmp_path):
    """There is no Slurm here: sbatch is a program that runs what it is given."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    for name, source in {
        "sbatch": SBATCH.format(python=sys.executable, log=str(log)),
        "srun": '#!/bin/bash\nshift 3; exec "$@"\n',  # -l -n 1
        "scontrol": "#!/bin/bash\necho here\n",
        "squeue": "#!/bin/bash\n",
    }.items():
        (programs / name).write_text(source)
        (programs / name).chmod(0o755)
    words = command(corpus, tmp_path / "out", "--engine", "slurm", "--slurm_partition", "cpu")
    run = start(words, PATH=f"{programs}:{os.environ['PATH']}")
    told = run.communicate(timeout=PATIENCE)[0]
    assert run.returncode == 0, told
    assert contents(tmp_path / "out") == contents(undisturbed)
    jobs = [line for line in log.read_text().splitlines() if line.startswith("--export=ALL,RUN_OFFSET")]
    assert ["--dependency=afterok:" in job for job in jobs] == [False, True, True, True]
    assert log.read_text().count("#SBATCH --partition=cpu") >= len(jobs)
