"""Windows: what is counted in them, and what happens when a way fails. Nothing here depends on a speed."""

from multiprocessing import Pipe

import gpu
import pytest
from machine import change, probe
from measure import WARM_UP_STEPS, Job, Ready, Window, _serve, _steps, _Stop, compare, table
from step import SHAPES, ratios
from ways import Way, synthetic_batches

TINY = SHAPES["tiny"]
BATCHES = synthetic_batches(TINY, 3)
JOB = Job(Way("bare"), TINY, BATCHES)


def test_a_window_counts_the_tokens_of_its_steps():
    ours, theirs = Pipe()
    for command in (("window", 2), ("memory", 0), ("window", 4), ("stop", 0)):
        ours.send(command)
    steps = _steps(JOB, theirs)
    next(steps)
    with pytest.raises(_Stop):
        for _ in range(100):
            next(steps)

    assert isinstance(ours.recv(), Ready)
    seen = [batch.tokens for batch in BATCHES] * 4
    first, memory, second = (ours.recv() for _ in range(3))
    assert isinstance(first, Window) and (first.steps, second.steps) == (2, 4)
    assert first.tokens == sum(seen[WARM_UP_STEPS : WARM_UP_STEPS + 2])
    assert second.tokens == sum(seen[WARM_UP_STEPS + 2 : WARM_UP_STEPS + 6])
    assert second.flops > 0 and memory > 0


def test_a_way_that_fails_reports_its_error():
    ours, theirs = Pipe()
    _serve(theirs, Job(Way("ours", "O9"), TINY, BATCHES))
    assert "O9" in ours.recv()


def test_measurements_that_time_did_not_allow_are_named():
    found, problems = compare([JOB], seconds=1, windows=1, deadline=0)
    assert found == [] and problems == ["tiny, bare: no time was left"]


def test_a_machine_that_changed_is_noticed():
    before = {"float32": 10.0, "bfloat16": 20.0, "copy": 1.0}
    assert change(before, {"float32": 10.0, "bfloat16": 15.0, "copy": 5.0}) == 0.25
    assert change(before, before) == 0


def test_the_probe_measures_both_types_and_a_copy():
    rates = probe("cpu", 0.01)
    assert set(rates) == {"float32", "bfloat16", "copy"} and min(rates.values()) > 0


def test_ours_is_compared_with_the_fastest_of_each_column():
    rates = [
        ("default", "ours O0", 60.0),
        ("default", "trainer", 10.0),
        ("default", "bare", 20.0),
        ("bf16", "ours O0", 50.0),  # another time, another rate
        ("bf16", "bare bf16", 5.0),
        ("best", "ours O0", 60.0),
        ("best", "bare fused", 15.0),
    ]
    found = [{"column": column, "way": name, "tokens_per_s": rate} for column, name, rate in rates]
    assert [(r["against"], r["fastest"], r["ratio"]) for r in ratios(found)] == [
        ("default", "bare", 3.0),
        ("bf16", "bare bf16", 10.0),
        ("best", "bare", 3.0),
    ]
    assert ratios(found[:1]) == []


def test_on_a_gpu_ours_is_compared_with_each():
    rates = {"ours O2": 60.0, "bare bf16 fused": 20.0, "bare bf16 compile fused": 30.0}
    found = [{"way": name, "tokens_per_s": rate} for name, rate in rates.items()]
    assert gpu._ratios(found) == {"bare bf16 fused": 3.0, "bare bf16 compile fused": 2.0}
    assert gpu._ratios(found[1:]) == {}


def test_a_table_is_markdown():
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | --: |\n| x | 1 |"
