"""Two processes that share weights out train what they would train without, and hold half of it each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nemo.backends.pytorch import PtActions
from nemo.backends.pytorch.distributed.sharded_weights import ShardedWeights, _regions_apart
from nemo.backends.pytorch.distributed.world import World
from nemo.collections.nlp.options import PretrainingOptions
from nemo.utils.errors import UsageError
from tests.conftest import PATIENCE

WORKER = Path(__file__).parent / "sharded_training.py"
ALIKE = {
    "sharded": "plain",
    "accumulated_sharded": "accumulated",
    "lamb_sharded": "lamb",
    "novograd_sharded": "novograd",
    "larc_sharded": "larc",
    "one_batch_sharded": "one_batch",
}
OTHERS = ("again_sharded", "bf16_sharded", "muon_sharded", "saver_sharded")
GROUPS = 4  # three layers, and the rest


def run(folder, num_processes, *cases):
    """Run cases of `sharded_training` one after the other; they must end well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, f"--nproc_per_node={num_processes}", WORKER, folder, *cases],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Case, rank -> what was found."""
    folder = tmp_path_factory.mktemp("sharding")
    run(folder, 2, *ALIKE, *ALIKE.values(), *OTHERS, "first")
    run(folder, 1, "second")
    run(folder, 2, "third")
    return lambda case, rank=0: torch.load(folder / case / f"{rank}.pt")


@pytest.mark.slow
@pytest.mark.parametrize(("case", "unsharded"), ALIKE.items())
def test_losses_norms_and_weights_equal_those_without_sharding(trained, case, unsharded):
    ours, theirs = trained(case), trained(unsharded)
    for name in ("losses", "norms", "figures"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name
    for name, weight in theirs["weights"].items():
        torch.testing.assert_close(ours["weights"][name], weight, atol=1e-5, rtol=0, msg=name)


@pytest.mark.slow
def test_both_processes_end_with_all_weights_in_their_modules(trained):
    first, second = trained("sharded", 0), trained("sharded", 1)
    for name, weight in first["weights"].items():
        assert torch.equal(second["weights"][name], weight), name
    for found in (first, second):
        assert found["are_same_parameters"] and found["are_same_classes"]
        assert found["hooks"] == trained("plain")["hooks"]
    assert second["figures"] == first["figures"][-1:]  # user callbacks are called in the first process only


@pytest.mark.slow
def test_the_same_modules_can_be_trained_again(trained):
    losses = trained("again_sharded")["losses"]
    assert losses[:5] == pytest.approx(trained("plain")["losses"][:5], abs=1e-5)
    assert sum(losses[5:]) < sum(losses[:5])


@pytest.mark.slow
def test_each_process_holds_half_of_weights_and_moments(trained):
    whole = trained("plain")
    for rank in (0, 1):
        found = trained("sharded", rank)
        for name in ("elements", "moments"):
            assert found[name] == pytest.approx(whole[name] / 2, rel=0.01), name


@pytest.mark.slow
def test_tied_weights_stay_tied(trained):
    assert all(trained("sharded", rank)["is_tied"] for rank in (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sharded", "accumulated_sharded"])
def test_gradients_are_sent_once_per_step(trained, case):
    found, whole = trained(case), trained("plain")
    assert found["messages"] == GROUPS
    assert found["bytes"] == pytest.approx(
        whole["bytes"], rel=0.01
    )  # but for what 101 rows are filled up with


@pytest.mark.slow
def test_bf16_products(trained):
    ours, fp32 = trained("bf16_sharded"), trained("plain")
    assert ours["losses"] == pytest.approx(fp32["losses"][:10], abs=0.01)


@pytest.mark.slow
def test_checkpoints_are_the_same_with_two_processes_and_one(trained):
    plain = trained("plain")["losses"]
    assert trained("first")["losses"] == pytest.approx(plain[:10], abs=1e-5)
    assert trained("second")["losses"] == pytest.approx(plain[10:20], abs=1e-5)
    assert trained("third")["losses"] == pytest.approx(plain[20:30], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "culprit"), [("muon_sharded", "Joined"), ("saver_sharded", "ModuleSaver")])
def test_modules_that_cannot_be_sharded_are_refused_by_name(trained, case, culprit):
    for rank in (0, 1):
        assert culprit in trained(case, rank)["problem"]


def test_bf16_weights_are_refused():
    with pytest.raises(UsageError, match="mxprO2"):
        PtActions(optimization_level="O2", shard=True)


@pytest.mark.parametrize("options", [{"amp_opt_level": "O2"}, {"optimizer": "muon"}])
def test_options_that_do_not_go_together(options):
    with pytest.raises(UsageError, match=f"--{next(iter(options))}"):
        PretrainingOptions(train_data="x", shard=True, **options)


def test_a_weight_without_rows_is_refused():
    part = nn.Module()
    part.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(UsageError, match=r"part\.scale"):
        ShardedWeights(nn.ModuleDict({"part": part}), torch.device("cpu"), World())


def test_a_region_with_shared_weights_is_not_sharded_separately():
    part = nn.ModuleDict({name: nn.Linear(2, 2) for name in ("alone", "tied", "outside")})
    part["tied"].bias = part["outside"].bias
    part.regions = [part["alone"], part["tied"]]
    assert _regions_apart(nn.ModuleDict({"part": part})) == [part["alone"]]
