"""The benchmarks are scripts beside each other, not a package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))


@pytest.fixture(autouse=True)
def _small_probe(monkeypatch):
    """No second is spent on what no test looks at."""
    monkeypatch.setattr("machine.GEMM_ON_CPU", (64, 64, 64))
