"""A model of the step's time from 1 to 65 536 ranks, checked against the runs that this machine can do.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --workloads mlp_20m --networks 1gbit --json scaling.json --plot scaling.png

The model (scaling_model.py) adds up bytes over bandwidth, messages times latency, and arithmetic. Its constants are measured first, each on
its own. Then come real runs: the ranks of this machine cut into nodes, whose messages pass through its memory, and, where namespaces are
permitted (root, `ip`, `tc`, MPICH), nodes joined by links of limited rate. One table compares them with the model, the next says how far a
step is from the longer of its compute and its communication. Then the model goes on to 65 536 ranks, and the last table says which part
of the algorithm stops scaling, and where.

Weak scaling: every rank has its batch. Nodes are like this machine, or have 64 ranks with as much bandwidth each as here; beyond the links
measured here a network of 100 Gbit/s and 2 µs is assumed. Full bisection is assumed, and that no rank is slower than the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import report  # before NumPy: it sets the number of threads

# isort: split
from network import Network, attempted, bits_per_second, mpiexec
from scaling_model import BLOCK, Job, Link, Machine, Work, blocks, first_above, step_parts, step_seconds

PROGRAM = str(Path(__file__).with_name("scaling_rank.py"))
LAYOUTS = ((1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1))  # nodes, ranks of a node
NETWORK_LAYOUTS = ((2, 1), (2, 2), (4, 1))
SIZES = [2**k for k in range(17)]
BIG_NODE = 64
ASSUMED = Link(latency=2e-6, message=0.5e-6, rate=100e9 / 8)
TIME_LIMIT = 900  # seconds for a run
NOTICEABLE = 0.1  # of the compute
GROWING = ("exchange", "exchange messages", "gather", "gather messages", "record", "fold", "barriers")


@dataclass(frozen=True)
class Run:
    """What the ranks of one run measured, and over what they were joined: "memory" or a rate."""

    nodes: int
    ranks: int
    joined: str
    result: dict[str, Any]

    @property
    def link(self) -> Link | None:
        """As a node sees it: all its ranks send at the same time."""
        found = self.result.get("link")
        return found and Link(found["latency"], found["message"], found["rate"] * self.ranks)


# runs


def on_this_machine(nodes: int, ranks: int, options: Sequence[str]) -> Run:
    words = [sys.executable, PROGRAM] if nodes * ranks == 1 else [mpiexec(), "-n", str(nodes * ranks), sys.executable, PROGRAM]
    return Run(nodes, ranks, "memory", _run(words, {**os.environ, "DIST_TRAIN_NODE_SIZE": str(ranks)}, options))


def over_network(network: Network, ranks: int, options: Sequence[str]) -> Run:
    words = network.command(ranks, sys.executable, PROGRAM)
    return Run(network.nodes, ranks, str(network.rate), _run(words, network.environment(), options))


def _run(words: Sequence[str], environment: dict[str, str], options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory, "result.json")
        subprocess.run([*words, *options, "--output", str(output)], env=environment, check=True, timeout=TIME_LIMIT)
        return dict(json.loads(output.read_text()))


def all_runs(networks: Sequence[str], options: Sequence[str]) -> tuple[list[Run], str | None]:
    """The runs, and why there are none over networks."""
    runs = []
    for nodes, ranks in LAYOUTS:
        report.progress(f"{nodes} × {ranks} in memory")
        runs.append(on_this_machine(nodes, ranks, options))
    for rate in networks:
        for nodes, ranks in NETWORK_LAYOUTS:
            with attempted(nodes, rate) as network:
                if isinstance(network, str):
                    return runs, network
                report.progress(f"{nodes} × {ranks} over {rate}")
                runs.append(over_network(network, ranks, options))
    return runs, None


# constants


def works(run: Run) -> dict[str, Work]:
    """Of a run whose ranks keep all cores busy."""
    rows = [(name, row["sizes"], row["fastest"]) for name, row in run.result["workloads"].items()]
    return {name: Work(sizes, fastest["forward"], fastest["backward"], fastest["update"]) for name, sizes, fastest in rows}


def entry_seconds(size: int = 4096) -> float:
    """What a rank of many spends on each rank's part of the step's record, when all parts are there."""
    from dist_train.comm.node import Layout, Node
    from dist_train.distributed.record import RecordExchange

    lane: Any = SimpleNamespace(rank=0, size=size, gather_slices=lambda vector, starts, counts: None)
    flat: Any = SimpleNamespace(counts=[BLOCK] * size, layout=Layout(Node(), lane, [[rank] for rank in range(size)]))
    record, times = RecordExchange(lane, size, [flat], 2), []
    for _ in range(9):
        start = time.perf_counter()
        record.gather((0, 0, 0, False))
        times.append(time.perf_counter() - start)
    return min(times) / size


def machine_of(runs: Sequence[Run], entry: float) -> Machine:
    """This machine, with its memory as the link between nodes too."""
    whole, link = _find(runs, 1, 2, "memory"), _find(runs, 2, 1, "memory").link
    assert link is not None
    return Machine(whole.result["bandwidth"], whole.result["barrier"], entry, link)


def _find(runs: Sequence[Run], nodes: int, ranks: int, joined: str) -> Run:
    return next(run for run in runs if (run.nodes, run.ranks, run.joined) == (nodes, ranks, joined))


def links_of(runs: Sequence[Run]) -> dict[str, Link]:
    """What joins two nodes of one rank."""
    return {run.joined: run.link for run in runs if (run.nodes, run.ranks) == (2, 1) and run.link is not None}


# the model beside the runs


def predicted(work: Work, run: Run, machine: Machine, links: dict[str, Link]) -> dict[str, float]:
    """What the model says of a run, one part after another and overlapped: all its nodes share this machine's cores and memory."""
    crowding = max(1.0, run.nodes * run.ranks / (os.cpu_count() or 1))
    link = links[run.joined]
    if run.joined == "memory":  # there the cores carry the messages
        link = Link(link.latency * crowding, link.message * crowding, link.rate / crowding)
    job = Job(run.nodes, run.ranks, crowding, sharing=run.nodes)
    node = replace(machine, outside=link)
    return {name: step_seconds(work, job, node, overlap=overlap) for name, overlap in (("serial", False), ("overlapped", True))}


def checks(runs: Sequence[Run], machine: Machine, links: dict[str, Link]) -> list[dict[str, Any]]:
    """One row for each run and workload. A rank alone computes faster than where all cores do."""
    lone, busy = works(runs[0]), works(_find(runs, 1, 2, "memory"))
    return [
        {
            "workload": name,
            "nodes": run.nodes,
            "ranks of a node": run.ranks,
            "joined by": run.joined,
            **model,
            "fastest": row["fastest"]["step"],
            "median": row["median"]["step"],
            "model ÷ fastest": model["overlapped"] / row["fastest"]["step"],
        }
        for name in busy
        for run in runs
        for row in [run.result["workloads"][name]]
        for model in [predicted((lone if run is runs[0] else busy)[name], run, machine, links)]
    ]


def overlaps(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Medians of the runs over networks: compute alone, communication alone, the step, and the step over the longer of the two."""
    return [
        {
            "workload": name,
            "nodes": run.nodes,
            "ranks of a node": run.ranks,
            "joined by": run.joined,
            "compute": median["alone"],
            "communication": median["communication"],
            "step": median["step"],
            "ratio": median["step"] / max(median["alone"], median["communication"]),
        }
        for run in runs
        if run.joined != "memory"
        for name, row in run.result["workloads"].items()
        for median in [row["median"]]
    ]


# beyond this machine


def machines(machine: Machine, links: dict[str, Link], ranks: int) -> dict[str, tuple[Machine, int]]:
    """By name, a machine with its network, and how many ranks it has."""
    found = {rate: link for rate, link in links.items() if rate != "memory"} or {
        "1gbit": Link(25e-6, 5e-6, bits_per_second("1gbit") / 8)  # a usual one, where none could be measured
    }
    large = replace(machine, bandwidth=machine.bandwidth * BIG_NODE / ranks)
    return {
        f"{label}, {number} ranks a node": (replace(node, outside=link), number)
        for node, number in ((machine, ranks), (large, BIG_NODE))
        for label, link in {**found, "100gbit (assumed)": ASSUMED}.items()
    }


def job_of(size: int, ranks: int) -> Job:
    return Job(max(1, size // ranks), min(size, ranks))


def curves(work: dict[str, Work], cases: dict[str, tuple[Machine, int]]) -> list[dict[str, Any]]:
    """For every workload and network: parts and whole of the step, by number of ranks."""
    return [
        {
            "workload": name,
            "network": label,
            "parts": {size: step_parts(model, job_of(size, ranks), machine) for size in SIZES},
            "step": {size: step_seconds(model, job_of(size, ranks), machine, overlap=True) for size in SIZES},
        }
        for name, model in work.items()
        for label, (machine, ranks) in cases.items()
    ]


def limits(curve: dict[str, Any]) -> dict[str, tuple[int | None, float]]:
    """For each part that grows with the ranks: from how many on it is noticeable, and its seconds on the most of them."""
    parts = curve["parts"]
    return {name: (first_above(parts, name, NOTICEABLE), parts[SIZES[-1]][name]) for name in GROWING}


# output


def print_constants(work: dict[str, Work], machine: Machine, links: dict[str, Link]) -> None:
    print(f"memory {machine.bandwidth / 1e9:.1f} GB/s, barrier {machine.barrier * 1e6:.1f} µs, record {machine.entry * 1e6:.2f} µs a rank")
    rows = [[name, link.latency * 1e6, link.message * 1e6, link.rate * 8e-9] for name, link in links.items()]
    print(report.table([["link", "latency µs", "message µs", "Gbit/s"], *rows]))
    models = [[name, w.parameters, w.forward * 1e3, w.backward * 1e3, w.update * 1e3, blocks(w.parameters)] for name, w in work.items()]
    print(report.table([["workload", "parameters", "forward ms", "backward ms", "update ms", "blocks"], *models]))


def print_rows(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Seconds are shown in milliseconds; what comes before them names the row."""
    names = list(rows[0])
    print(f"\n{title}")
    print(report.table([names, *([_milliseconds(name, row[name]) for name in names] for row in rows)]))


def _milliseconds(name: str, value: Any) -> Any:
    return value * 1e3 if isinstance(value, float) and "ratio" not in name and "÷" not in name else value


def print_curves(found: Sequence[dict[str, Any]]) -> None:
    shown = SIZES[::2]
    print("\nmodel: milliseconds a step by number of ranks")
    lines = [[curve["workload"], curve["network"], *(curve["step"][size] * 1e3 for size in shown)] for curve in found]
    print(report.table([["workload", "network", *map(str, shown)], *lines]))
    print(f"\nmodel: ranks from which on a part takes more than {NOTICEABLE:.0%} of the compute / its milliseconds on {SIZES[-1]} ranks")
    heading = ["workload", "network", *limits(found[0])]
    print(report.table([heading, *([c["workload"], c["network"], *map(_limit, limits(c).values())] for c in found)]))


def _limit(limit: tuple[int | None, float]) -> str:
    size, cost = limit
    return f"{size or '-'} / {cost * 1e3:.3g}"


def plot(path: Path, found: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    """The curves, a panel for each workload, and the model beside the runs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    workloads = list(dict.fromkeys(curve["workload"] for curve in found))
    figure, axes = pyplot.subplots(1, len(workloads) + 1, figsize=(6 * (len(workloads) + 1), 5), constrained_layout=True)
    for axis, workload in zip(axes, workloads):
        for curve in (curve for curve in found if curve["workload"] == workload):
            axis.plot(SIZES, [seconds * 1e3 for seconds in curve["step"].values()], label=curve["network"])
        axis.set(xscale="log", yscale="log", xlabel="ranks", ylabel="ms a step", title=f"{workload}: model")
        axis.set_xscale("log", base=2)
        axis.legend(fontsize="small")
    for workload in workloads:
        points = [(row["overlapped"] * 1e3, row["fastest"] * 1e3) for row in rows if row["workload"] == workload]
        axes[-1].scatter(*zip(*points), label=workload)
    ends = [min(row["fastest"] for row in rows) * 1e3, max(row["fastest"] for row in rows) * 1e3]
    axes[-1].plot(ends, ends, color="grey", linewidth=0.8)
    axes[-1].set(xscale="log", yscale="log", xlabel="model, ms", ylabel="run, ms", title="runs on this machine")
    axes[-1].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = report.parser(__doc__, rounds=7)
    parser.add_argument("--workloads", nargs="*", default=["mlp_20m", "gpt_3m"])
    parser.add_argument("--networks", nargs="*", default=["1gbit", "10gbit"], help="rates of the links between namespaces")
    parser.add_argument("--plot", type=Path, help="draw the model and the runs into this PNG")
    args = parser.parse_args()
    runs, missing = all_runs(args.networks, ["--rounds", str(args.rounds), "--workloads", *args.workloads])
    work, machine, links = works(_find(runs, 1, 2, "memory")), machine_of(runs, entry_seconds()), links_of(runs)
    rows, measured = checks(runs, machine, links), overlaps(runs)
    found = curves(work, machines(machine, links, os.cpu_count() or 1))
    print_constants(work, machine, links)
    print_rows("the model beside the runs, milliseconds a step", rows)
    if missing is not None:
        print(f"\nno runs over networks: {missing}")
    if measured:
        print_rows("medians over networks, milliseconds; ratio: step ÷ the longer of compute and communication", measured)
    print_curves(found)
    if args.plot is not None:
        plot(args.plot, found, rows)
    report.write(args.json, rows, overlap=measured, curves=found, no_networks=missing)


if __name__ == "__main__":
    main()
