"""Whatever a user can give ends by the contract: some cases of the generator."""

import pytest

from tests.faults.command_lines import make_folder, problem_of

CASES, AT_ONCE = 60, 10
"""Of `make chaos`, which has thousands; the same ones every time."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("world"))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, CASES, AT_ONCE))
def test_no_case_is_an_internal_error(world, tmp_path, first):
    problems = [problem_of(seed, world, tmp_path / str(seed)) for seed in range(first, first + AT_ONCE)]
    assert [problem for problem in problems if problem] == []
