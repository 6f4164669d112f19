"""Runs of so many minutes, by a clock that only what the tests name moves."""

import json
import shlex
from types import SimpleNamespace

import pytest

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.training.loop import Training
from nemo.cli.pretrain import parse_options
from nemo.collections.nlp.options import PretrainingOptions
from nemo.collections.nlp.pretraining import duration, setup
from nemo.collections.nlp.pretraining import run as pretraining
from nemo.utils import stopwatch
from nemo.utils.arguments import read_options
from nemo.utils.errors import UsageError
from tests.conftest import write_english

TINY = shlex.split(
    "--no-report "
    "--tokenizer word-piece --vocab_size 80 --hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 "
    "--intermediate_size 32 --max_seq_length 32 --batch_size 4 --optimizer adam_w --lr 1e-3 "
    "--lr_policy PolynomialDecayAnnealing --lr_warmup_proportion 0.1 --train_step_freq 1 "
    "--save_epoch_freq -1 --save_step_freq 20 --threads 1 --mask_probability 0.4:0.1"
)
FIRST_STEP = 8.0  # seconds, in which much is made that is used from then on


class Machine:
    """How long everything takes, in seconds, and what time it is.

    Attributes:
        step: of each step: (finished steps) -> seconds.
        killed_after: a step, after which the process is gone.
    """

    def __init__(self):
        self.now = 1000.0
        self.step = lambda done: 2.0
        self.start, self.eval_batch, self.save = 10.0, 0.7, 0.5
        self.killed_after = None


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    clock = SimpleNamespace(monotonic=lambda: made.now)
    for module in (duration, pretraining, stopwatch):
        monkeypatch.setattr(module, "time", clock)
    step, evaluate, save, open_data = (
        Training._step,
        PtActions.evaluate,
        PtActions.save,
        setup.open_data,
    )

    def taking(seconds, work):
        def slow(*args, **kwargs):
            made.now += seconds()
            return work(*args, **kwargs)

        return slow

    def slow_step(self, inputs):
        done = self.progress.step
        if done == made.killed_after:
            raise KeyboardInterrupt
        made.now += made.step(done) + (FIRST_STEP if done == 0 else 0)
        return step(self, inputs)

    monkeypatch.setattr(Training, "_step", slow_step)

    def slow_evaluation(self, tensors):
        for batch in evaluate(self, tensors):
            made.now += made.eval_batch
            yield batch

    monkeypatch.setattr(PtActions, "evaluate", slow_evaluation)
    monkeypatch.setattr(PtActions, "save", taking(lambda: made.save, save))
    monkeypatch.setattr(setup, "open_data", taking(lambda: made.start, open_data))
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_english(tmp_path_factory.mktemp("duration") / "english")


def run(data, work_dir, machine, *words):
    """Seconds that it takes."""
    began = machine.now
    options = ["data_text", "--data_dir", str(data), "--work_dir", str(work_dir), *TINY, *words]
    pretraining.pretrain(parse_options(options))
    return machine.now - began


def rows(work_dir):
    lines = (work_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "lr" in row]


def config(work_dir):
    return read_options(PretrainingOptions, work_dir / "config.yaml")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda done: 2.0, ["--eval_step_freq", "30"]),
        (lambda done: 2.0, ["--eval_step_freq", "-1"]),
        (lambda done: 1.4 if done < 50 else 2.8, ["--eval_step_freq", "30"]),
        (lambda done: 2.8 if done < 30 else 1.4, ["--eval_step_freq", "30"]),
        (lambda done: 5.0 * 0.9**done + 1.4 + 0.4 * (done % 3), ["--eval_step_freq", "-1"]),
        (lambda done: 20.0, ["--eval_step_freq", "5"]),
    ],
    ids=["steady", "evaluated at the end", "slowing down", "speeding up", "warming up", "few steps"],
)
def test_a_run_ends_on_time_with_a_rate_that_has_decayed(data, tmp_path, machine, step, words):
    machine.step = step
    took = run(data, tmp_path, machine, "--minutes", "4", *words)
    assert took == pytest.approx(240, rel=0.07)
    last = rows(tmp_path)[-1]
    status = json.loads((tmp_path / "status.json").read_text())
    assert last["step"] == status["step"] == status["total_steps"] == config(tmp_path)["num_iters"]
    assert last["lr"] < 1e-3 * 1.2 / last["step"]  # that of the last of so many steps
    assert max(row["lr"] for row in rows(tmp_path)) > 0.7e-3


@pytest.mark.slow
def test_a_configuration_repeats_a_run_that_was_planned_again(data, tmp_path, machine):
    machine.step = lambda done: 1.5 if done < 20 else 3.0
    run(data, tmp_path / "run", machine, "--minutes", "2", "--eval_step_freq", "-1")
    assert len(config(tmp_path / "run")["step_plan"].split(",")) > 3
    machine.step = lambda done: 0.1
    pretraining.pretrain(
        parse_options(["--config", str(tmp_path / "run/config.yaml"), "--work_dir", str(tmp_path / "again")])
    )
    told = [[(r["step"], r["lr"], r["loss"]) for r in rows(tmp_path / name)] for name in ("run", "again")]
    assert told[0] == told[1]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_as_planned(data, tmp_path, machine):
    words = ["--minutes", "4", "--eval_step_freq", "-1"]
    run(data, tmp_path / "whole", machine, *words)
    machine.killed_after = 55
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "killed", machine, *words)
    plan = config(tmp_path / "killed")["step_plan"]
    machine.killed_after = None
    took = run(data, tmp_path / "killed", machine, *words)  # from step 40 on
    assert config(tmp_path / "killed")["step_plan"] == plan == config(tmp_path / "whole")["step_plan"]
    told = [[(r["step"], r["lr"], r["loss"]) for r in rows(tmp_path / n)] for n in ("whole", "killed")]
    assert told[0] == told[1]
    assert took == pytest.approx(240 * (1 - 40 / told[0][-1][0]), rel=0.15)
    assert run(data, tmp_path / "killed", machine, *words) < 40  # nothing is left


@pytest.mark.slow
def test_going_on_at_another_speed_takes_what_is_left_of_the_time(data, tmp_path, machine):
    words = ["--minutes", "4", "--eval_step_freq", "-1"]
    machine.killed_after = 55
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path, machine, *words)
    planned = config(tmp_path)["num_iters"]
    machine.killed_after, machine.step, machine.eval_batch = None, lambda done: 4.0, 1.4
    took = run(data, tmp_path, machine, *words)  # from step 40 on
    assert took == pytest.approx(machine.start + 240 * (1 - 40 / planned), rel=0.1)
    assert 55 < config(tmp_path)["num_iters"] < 0.8 * planned


@pytest.mark.slow
def test_epochs_end_a_run_that_has_time_left(data, tmp_path, machine):
    words = ["--minutes", "40", "--num_epochs", "2", "--eval_step_freq", "-1"]
    took = run(data, tmp_path / "short", machine, *words)
    run(data, tmp_path / "epochs", machine, "--num_epochs", "2", "--eval_step_freq", "-1")
    last = rows(tmp_path / "short")[-1]
    assert last["step"] == rows(tmp_path / "epochs")[-1]["step"] == config(tmp_path / "short")["num_iters"]
    assert took < 1200 and last["lr"] < 1e-3 * 1.2 / last["step"]
    assert any("steps in total (all epochs)" in line for line in log(tmp_path / "short"))
    assert config(tmp_path / "short")["num_epochs"] is None  # a repetition has the steps
    rates = [[row["lr"] for row in rows(tmp_path / name)] for name in ("short", "epochs")]
    assert rates[0] == rates[1]  # known from the first step on


@pytest.mark.slow
def test_minutes_end_a_run_that_has_epochs_left(data, tmp_path, machine):
    took = run(data, tmp_path, machine, "--minutes", "4", "--num_epochs", "1000", "--eval_step_freq", "-1")
    assert took == pytest.approx(240, rel=0.07)


def log(work_dir):
    return (work_dir / "log_globalrank-0_localrank-0.txt").read_text().splitlines()


def test_a_run_that_cannot_end_on_time_is_refused_at_once(data, tmp_path, machine):
    machine.start = 300.0
    took = run(data, tmp_path, machine, "--minutes", "4", "--eval_step_freq", "-1")
    assert took == pytest.approx(300 + 120 + 20, rel=0.05)  # training has half of the time
    lines = log(tmp_path)
    late = next(i for i, line in enumerate(lines) if "will take about 7 min" in line)
    assert "instead of 4 min" in lines[late] and "its startup takes 5 min" in lines[late]
    assert late < next(i for i, line in enumerate(lines) if "step 1  " in line)


@pytest.mark.slow
def test_an_evaluation_that_takes_long_leaves_half_of_the_time(data, tmp_path, machine):
    machine.eval_batch = 7.0
    took = run(data, tmp_path, machine, "--minutes", "4", "--eval_step_freq", "100000")
    lines = log(tmp_path)
    (late,) = (i for i, line in enumerate(lines) if "will take about" in line)
    assert late < next(i for i, line in enumerate(lines) if "evaluation after step 0" in line)
    batches = 28
    assert took == pytest.approx(10 + 7 * batches + 120 + 7 * batches, rel=0.05)
    assert "instead of 4 min" in lines[late]


def test_minutes_on_the_command_line_win_over_steps_in_a_configuration(data, tmp_path, machine):
    run(data, tmp_path / "run", machine, "--minutes", "2", "--eval_step_freq", "-1")
    words = ["--config", str(tmp_path / "run/config.yaml"), "--work_dir", "elsewhere"]
    assert parse_options(words).num_iters == config(tmp_path / "run")["num_iters"]
    options = parse_options([*words, "--minutes", "3"])
    assert (options.minutes, options.num_iters, options.step_plan) == (3, -1, None)
    assert "minutes" in options.given
    with pytest.raises(UsageError, match="--num_iters and --minutes cannot be combined"):
        parse_options([*words, "--minutes", "3", "--num_iters", "5"])
