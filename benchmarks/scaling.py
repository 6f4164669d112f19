"""Measures the gain and cost of several processes on this machine, and models the scaling to many GPUs.

    python benchmarks/scaling.py [--shape mini] [--processes 2] [--quick] [--model_only]

Measured in alternating windows (A B C A B C ...), on ready batches, through `NeuralModuleFactory.train`:

    one      one process with as many threads as there are processes in `several`
    joined   the same with WORLD_SIZE=1: the cost of the distributed code in one process (goal: at most 1%)
    several  processes with one thread each that share the same global batch, by gloo (goal: 0.95 of `one`)

It also counts the bytes that a step sends, and times these messages and a sum of three numbers alone.

The model predicts weak scaling: every GPU has the same number of tokens per step. A step takes

    the compute time + communication not hidden by the backward pass + the sum of the loss divisors

All assumptions are constants below, each with its source, and also options. None of them was measured.
"""

import argparse
import math
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import STEADY, change, environment, probe, probe_lines
from measure import WAY_HEADER, Job, Worker, about, found_by, table, way_rows, write_json
from step import BASE, SHAPES
from ways import Batch, Shape, Way, synthetic_batches, train

# Assumptions of the model.
TOKENS_PER_S = {
    "base": 816e3,
    "large": 263e3,
}  # of one H200 in bf16: goals G1 and G3 of the spec, not reached yet
TOKENS_PER_STEP = 32768  # of one GPU, as in goal S1 and as in NVIDIA's recipe on 256 GPUs
BACKWARD = 2 / 3  # of computing: two products for each of the forward pass
REACHED = 0.8  # of a link's bandwidth, as all_reduce of large messages by NCCL usually does
INSIDE = 450e9 * REACHED  # bytes/s of a GPU one way: NVLink 4, H100 and H200 data sheets (900 GB/s both ways)
BETWEEN = 50e9 * REACHED  # bytes/s of a GPU one way: a card of 400 Gb/s for each, as in a DGX H100
INSIDE_HOP, BETWEEN_HOP, CALL = (
    3.4e-6,
    14e-6,
    8.4e-6,
)  # seconds: NCCL's own table for rings (src/graph/tuning.cc)
COUNT_HOP = (
    25e-6  # seconds: a small TCP message between machines of one room; by gloo, as counts are on the CPU
)
GPUS_OF_NODE = 8
GPUS = (8, 16, 64, 256, 1000)
BUCKET = 25 << 20  # bytes of float32 gradients in a message: BYTES_OF_BUCKET of gradient_sum.py
LARGE = Shape("large", 24, 1024, 16, 4096, batch_size=16, length=128)
MODELS = {"base": replace(BASE, name="base"), "large": LARGE}


@dataclass(frozen=True)
class Network:
    """GPUs in nodes; see the constants."""

    inside: float = INSIDE
    between: float = BETWEEN
    inside_hop: float = INSIDE_HOP
    between_hop: float = BETWEEN_HOP
    call: float = CALL
    count_hop: float = COUNT_HOP
    gpus_of_node: int = GPUS_OF_NODE

    def ring(self, size: float, gpus: int) -> float:
        """Seconds to sum `size` bytes around all GPUs, each node's cards side by side."""
        nodes = self._nodes(gpus)
        hops, far = 2 * (gpus - 1), 2 * (nodes - 1)
        rate = self.inside if nodes == 1 else min(self.inside, self.between * self.gpus_of_node)
        return self.call + hops / gpus * size / rate + (hops - far) * self.inside_hop + far * self.between_hop

    def hierarchical(self, size: float, gpus: int) -> float:
        """The same in three steps: within nodes, up and down a tree of nodes by parts, within nodes again."""
        nodes, near = self._nodes(gpus), min(gpus, self.gpus_of_node)
        inside = 2 * (near - 1) * (size / near / self.inside + self.inside_hop)
        if nodes == 1:
            return self.call + inside
        tree = 2 * size / near / self.between + 2 * math.ceil(math.log2(nodes)) * self.between_hop
        return self.call + inside + tree

    def _nodes(self, gpus: int) -> int:
        return math.ceil(gpus / self.gpus_of_node)

    def counting(self, gpus: int) -> float:
        """Seconds to sum the loss divisors of all GPUs, around a ring."""
        return 2 * (gpus - 1) * self.count_hop


@dataclass(frozen=True)
class Step:
    """What one GPU does.

    Attributes:
        seconds: of computing.
        weights: of the model; the last ones of them are the word embeddings, tied to the output, whose
            gradient is complete at the end of the backward pass.
    """

    seconds: float
    weights: int
    last: int

    def efficiency(
        self, network: Network, gpus: int, how: str, bytes_each: int = 4, overlap: bool = True
    ) -> float:
        """Computing as a share of the whole step: of `gpus` times the rate of one GPU."""
        if gpus == 1:
            return 1.0
        sending = getattr(network, how)
        messages = math.ceil((self.weights - self.last) * 4 / BUCKET)
        first = messages * sending((self.weights - self.last) * bytes_each / messages, gpus)
        if overlap:
            first = max(0.0, first - BACKWARD * self.seconds)
        exposed = first + sending(self.last * bytes_each, gpus)
        return self.seconds / (self.seconds + exposed + network.counting(gpus))


def step_of(name: str, tokens: float, tokens_per_s: float) -> Step:
    """The step of the real model, which is created without allocating its memory."""
    from nemo.collections.nlp.nm.pretraining_model import with_heads
    from nemo.collections.nlp.nm.trainables.common.huggingface import BERT

    shape = MODELS[name]
    with torch.device("meta"):
        weights = with_heads(BERT(**shape.model)).num_weights
    return Step(tokens / tokens_per_s, weights, shape.vocab_size * shape.hidden_size)


def predict(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Efficiencies for all models and ways to send."""
    network = Network(args.inside, args.between, count_hop=args.count_hop)
    rates = dict(zip(MODELS, args.tokens_per_s, strict=True))
    steps = {name: step_of(name, args.tokens_per_step, rate) for name, rate in rates.items()}
    return [
        {
            "model": name,
            "weights": step.weights,
            "compute_s": step.seconds,
            "gradients": dtype,
            "all_reduce": how,
            "overlap": overlap,
            "counting_s": {gpus: network.counting(gpus) for gpus in args.gpus},
            "efficiency": {gpus: step.efficiency(network, gpus, how, size, overlap) for gpus in args.gpus},
        }
        for name, step in steps.items()
        for dtype, size in (("fp32", 4), ("bf16", 2))
        for how in ("ring", "hierarchical")
        for overlap in (False, True)
    ]


# Measuring


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the three ways in alternation, and the messages.

    Raises:
        WorkerError, SystemExit: a way could not be measured.
    """
    shape, number = args.shape, args.processes
    whole = synthetic_batches(shape)
    ranks = _ranks(number)
    jobs = [
        Job(Way("ours"), shape, whole, threads=number),
        Job(Way("ours", environment=(("WORLD_SIZE", "1"),)), shape, whole, threads=number),
        Job(Way("ours", environment=ranks[0]), shape, _shared_out(whole, number), threads=1),
    ]
    ours, theirs = get_context("spawn").Pipe()
    others = [_start(_follow, replace(jobs[2], way=Way("ours", environment=r)), theirs) for r in ranks[1:]]
    workers: list[Worker] = []
    try:
        workers += [Worker(job) for job in jobs]
        for _ in range(args.windows):
            for worker in workers:
                worker.window(args.seconds)
        found = [found_by(worker) for worker in workers]
    finally:
        for process in others:
            process.kill()
        for worker in workers:
            worker.stop(patience=0)  # or it would wait for the others
    one, joined, several = found
    several["tokens_per_s"] *= number  # counted by one process
    several["flops_per_s"] *= number
    for window in several["windows"]:
        window["tokens"] *= number
    for way, name in zip(found, ("one", "joined", "several"), strict=True):
        way["way"] = name
    num_bytes, num_messages = _received(ours)
    alone = [_start(_sum_alone, r, num_bytes, num_messages, theirs) for r in _ranks(number)]
    whole_s, small_s = _received(ours)
    for process in alone:
        process.join()
    return {
        "shape": about(shape, whole),
        "processes": number,
        "ways": found,
        "several_of_one": several["tokens_per_s"] / one["tokens_per_s"],
        "cost_of_joining": 1 - joined["tokens_per_s"] / one["tokens_per_s"],
        "bytes_per_step": num_bytes,
        "messages_per_step": num_messages,
        "all_reduce_s": whole_s,
        "small_sum_s": small_s,
    }


def _shared_out(batches: Sequence[Batch], number: int) -> list[Batch]:
    """Process 0's part of the first batch, process 1's, ..., process 0's part of the second, ..."""
    return [Batch(*(array[rank::number] for array in batch)) for batch in batches for rank in range(number)]


def _ranks(number: int) -> list[tuple[tuple[str, str], ...]]:
    """The environment variables that a launcher would set in each process."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = str(some.getsockname()[1])
    shared = {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [tuple({**shared, "RANK": str(r), "LOCAL_RANK": str(r)}.items()) for r in range(number)]


def _start(target: Any, *args: Any) -> Any:
    process = get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    return process


def _received(connection: Connection) -> Any:
    if not connection.poll(120):
        raise SystemExit("the other processes have ended or hang")
    return connection.recv()


def _follow(job: Job, connection: Connection) -> None:
    """Train along with rank 0, which alone is controlled: the others wait for it at the next sum."""
    os.environ.update(job.way.environment)
    torch.set_num_threads(1)
    steps = 0

    def tick() -> None:
        nonlocal steps
        steps += 1
        if steps == 2 and os.environ["RANK"] == "1":
            from nemo.core import NeuralModuleFactory

            (sums,) = NeuralModuleFactory.get_default_factory().get_trainer().replicas._sums.values()
            connection.send((sums.num_bytes, sums.num_messages))

    train(job.way, job.shape.model, job.batches, job.device, tick)


def _sum_alone(rank: Any, num_bytes: int, num_messages: int, connection: Connection) -> None:
    """Time sums of the size that a step sends, and of three numbers."""
    os.environ.update(rank)
    torch.set_num_threads(1)
    from nemo.backends.pytorch.distributed.world import join

    def seconds(tensors: Sequence[torch.Tensor], times: int) -> float:
        found = []
        for _ in range(times):
            world.barrier("the others")
            began = time.perf_counter()
            for tensor in tensors:
                world.all_reduce(tensor)
            found.append(time.perf_counter() - began)
        return median(found)

    with join(torch.device("cpu")) as world:
        gradient = torch.zeros(num_bytes // 4).chunk(num_messages)
        told = seconds(gradient, 10), seconds([torch.zeros(3)], 200)
        if world.rank == 0:
            connection.send(told)


# Report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, predict, print and write; return the exit status."""
    args = _arguments(argv)
    report: dict[str, Any] = {"what": "scaling", "environment": environment("cpu"), "steady": True}
    if not args.model_only:
        before = probe("cpu", args.probe_seconds)
        report["measured"] = measure(args)
        after = probe("cpu", args.probe_seconds)
        report |= {"probe": {"before": before, "after": after}, "steady": change(before, after) <= STEADY}
        print("\n".join([*_measured(report["measured"], before), *probe_lines(before, after)]), flush=True)
    names = ("tokens_per_s", "tokens_per_step", "inside", "between", "count_hop")
    report |= {"network": asdict(Network()) | {name: getattr(args, name) for name in names}}
    report["predicted"] = predict(args)
    print("\n".join(_predicted(report["predicted"])))
    write_json(args.json, report)
    return 0 if report["steady"] else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", default="mini", choices=[n for n, s in SHAPES.items() if not s.padding])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--windows", type=int, default=6, help="windows per way")
    parser.add_argument("--seconds", type=float, default=10, help="seconds per window; at least one step")
    parser.add_argument("--probe_seconds", type=float, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="short windows on the smallest model: a first look"
    )
    parser.add_argument("--model_only", action="store_true", help="only predict, do not measure")
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS)
    rates = list(TOKENS_PER_S.values())
    parser.add_argument("--tokens_per_s", type=float, nargs=2, default=rates, help="per GPU: base, large")
    parser.add_argument("--tokens_per_step", type=float, default=TOKENS_PER_STEP, help="per GPU")
    parser.add_argument("--inside", type=float, default=INSIDE, help="bytes/s of a GPU within its node")
    parser.add_argument("--between", type=float, default=BETWEEN, help="bytes/s of a GPU to other nodes")
    parser.add_argument("--count_hop", type=float, default=COUNT_HOP, help="seconds per small TCP message")
    parser.add_argument("--json", type=Path, help="file for the report, with every window")
    args = parser.parse_args(argv)
    args.shape = SHAPES[args.shape]
    if args.quick:
        args.shape = replace(SHAPES["tiny"], padding=0.0)
        args.windows, args.seconds, args.probe_seconds = 2, 0.2, 0.2
    if args.processes < 2 or args.shape.batch_size % args.processes:
        parser.error(f"--processes must be two or more and divide the batch of {args.shape.batch_size}")
    return args


def _measured(report: Mapping[str, Any], rates: Mapping[str, float]) -> list[str]:
    shape, mb = report["shape"], report["bytes_per_step"] / 1e6
    return [
        f"\n{shape['name']}: {shape['num_layers']} layers x {shape['hidden_size']}, a global batch of "
        f"{shape['batch_size']} x {shape['length']}, {report['processes']} processes or threads",
        table(WAY_HEADER, way_rows(report["ways"], rates)),
        f"several / one: {report['several_of_one']:.3f} (goal: at least 0.95)",
        f"cost of joining alone: {report['cost_of_joining']:.1%} (goal: at most 1%)",
        f"a step sends {mb:.1f} MB in {report['messages_per_step']} messages, which alone take "
        f"{report['all_reduce_s'] * 1e3:.1f} ms, a sum of three numbers {report['small_sum_s'] * 1e6:.0f} us",
    ]


def _predicted(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    gpus = list(rows[0]["efficiency"])
    models = {row["model"]: row for row in rows}.values()
    counting = [f"{number}: {seconds * 1e3:.1f} ms" for number, seconds in rows[0]["counting_s"].items()]
    return [
        "\nPredicted, not measured: the rate of N GPUs as a share of N times that of one",
        *(
            f"{m['model']}: {m['weights']:,} weights, {m['compute_s'] * 1e3:.0f} ms of computing"
            for m in models
        ),
        f"the sum of counts over N GPUs: {', '.join(counting)}",
        table(
            ["model", "gradients", "all-reduce", "overlap", *map(str, gpus)],
            [
                [row["model"], row["gradients"], row["all_reduce"], "yes" if row["overlap"] else "no"]
                + [f"{row['efficiency'][number]:.1%}" for number in gpus]
                for row in rows
            ],
        ),
    ]


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"\n{time.monotonic() - began:.0f} s in total, load {os.getloadavg()[0]:.1f}")
    sys.exit(status)
