"""The benchmarks of communication: the model against closed forms and against counted bytes, the namespaces, a small run of each."""

import json
import os
import signal
import subprocess
import sys

import mpi
import pytest

sys.path.insert(0, str(mpi.ROOT / "benchmarks"))

import network as networks
import scaling_model as model
from scaling_model import Job, Link, Machine, Work

BENCHMARKS = mpi.ROOT / "benchmarks"
BLOCKS = 60 * 1024  # elements: 60 blocks, which 1, 2, 3, 4, 5 and 6 divide
LINK = Link(latency=1e-3, message=1e-4, rate=1e6)
MACHINE = Machine(bandwidth=1e9, barrier=1e-5, entry=1e-6, outside=LINK)
WORK = Work((BLOCKS,), forward=1.0, backward=2.0, update=0.5)


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5, 6])
def test_a_node_receives_all_other_nodes_sums_of_its_slice_and_all_slices_but_its_own(nodes):
    share = 4 * BLOCKS // nodes
    assert model.exchange_bytes(BLOCKS, nodes) == model.gather_bytes(BLOCKS, nodes) == (nodes - 1) * share
    assert model.exchange_bytes(BLOCKS, nodes, sums=2) == 2 * (nodes - 1) * share


@pytest.mark.parametrize(
    "nodes, ranks, sums, expected",
    [
        (1, 1, 1, 1),  # the squares of its blocks are added up
        (1, 2, 1, 3),  # both gradients are read, the sum is written
        (1, 4, 1, 5),
        (3, 1, 1, 4 / 3),  # a third: three sums, and the total
        (2, 2, 1, 3 / 2 + 4 / 2),  # half for the other node; half from two gradients and the other's sum
        (2, 3, 2, 4 / 2 + 6 / 2),
    ],
)
def test_what_folding_moves_in_a_nodes_memory(nodes, ranks, sums, expected):
    assert model.fold_bytes(BLOCKS, nodes, ranks, sums) == pytest.approx(expected * 4 * BLOCKS)


def test_slices_are_whole_blocks():
    assert model.slice_bytes(BLOCKS, 7) == 9 * 4096
    assert model.slice_bytes(BLOCKS, 61) == model.slice_bytes(1, 1) == 4096


@pytest.mark.parametrize("nodes, ranks, expected", [(1, 3, 1), (2, 1, 1), (4, 2, 1), (3, 4, 1), (2, 3, 2), (5, 3, 2), (2, 6, 2)])
def test_a_node_sends_its_share_of_the_tree_in_whole_subtrees(nodes, ranks, expected):
    assert model.num_sums(nodes, ranks) == expected


@pytest.mark.parametrize("size, lines", [(1, 9), (2, 5), (3, 4), (30, 1), (7, 2), (100, 1)])  # 6 numbers and the slice's squares, 8 a line
def test_a_ranks_part_of_the_record_is_whole_lines(size, lines):
    assert model.record_bytes(BLOCKS, size) == size * lines * 64


@pytest.mark.parametrize("nodes, batches", [(1, 0), (2, 1), (33, 1), (34, 2), (65, 2)])
def test_an_all_to_all_has_a_message_from_and_to_every_other_node_of_which_32_travel_at_a_time(nodes, batches):
    assert model.messages(Job(nodes, 4), MACHINE) == pytest.approx(2 * (nodes - 1) * 1e-4 + batches * 1e-3)


def test_a_step_of_one_rank_is_compute_and_update():
    expected = 3.5 + MACHINE.entry + 4 * BLOCKS / MACHINE.bandwidth
    assert model.step_seconds(WORK, Job(1, 1), MACHINE, overlap=False) == pytest.approx(expected)
    assert model.step_seconds(WORK, Job(1, 1), MACHINE, overlap=True) == pytest.approx(expected)


def test_a_step_of_two_nodes():
    parts = model.step_parts(WORK, Job(2, 1), MACHINE)
    half = 2 * BLOCKS
    assert parts["exchange"] == parts["gather"] == pytest.approx(half / 1e6)
    assert parts["exchange messages"] == parts["gather messages"] == pytest.approx(2 * 1e-4 + 1e-3)
    assert parts["update"] == pytest.approx(0.25)
    assert parts["fold"] == pytest.approx(3 * half / 1e9)
    assert parts["barriers"] == 0


@pytest.mark.parametrize(
    "ready, lengths, end",
    [([], [], 0), ([2], [3], 5), ([1, 2], [3, 1], 5), ([1, 9], [3, 1], 10), ([0, 0, 0], [1, 2, 3], 6)],
)
def test_a_worker_takes_up_one_job_after_another_when_it_is_ready(ready, lengths, end):
    assert model.pipelined(ready, lengths) == end


@pytest.mark.parametrize("backward", [0.0, 0.3, 100.0])
def test_buckets_are_exchanged_while_backward_runs(monkeypatch, backward):
    monkeypatch.setenv("DIST_TRAIN_BUCKET_BYTES", str(4 * 40 * 1024))
    work, job = Work([40 * 1024] * 2, 1.0, backward, 0.5), Job(2, 1)
    assert model.buckets_of(work, job, MACHINE) == [40 * 1024] * 2
    parts = model.step_parts(work, job, MACHINE)
    reduce = (parts["fold"] + parts["exchange"] + parts["exchange messages"]) / 2  # of one bucket
    gather = (parts["gather"] + parts["gather messages"]) / 2
    expected = 1.0 + max(backward / 2 + reduce, backward) + reduce + parts["record"] + max(0.125 + gather, 0.25) + gather
    assert model.step_seconds(work, job, MACHINE, overlap=True) == pytest.approx(expected)
    assert model.step_seconds(work, job, MACHINE, overlap=False) == pytest.approx(sum(parts.values()))


def test_one_node_has_nothing_to_overlap():
    steps = [model.step_seconds(WORK, Job(1, 4), MACHINE, overlap=overlap) for overlap in (False, True)]
    assert steps[0] == steps[1]


def test_where_a_part_becomes_noticeable():
    parts = {size: {"compute": 1.0, "record": size / 100} for size in (1, 4, 16, 64)}
    assert model.first_above(parts, "record", 0.1) == 16
    assert model.first_above(parts, "record", 1.0) is None


TRAFFIC = """
import sys
sys.path.insert(0, "benchmarks")
import comm
count = int(sys.argv[1])
flat, reduction = comm.vector_of(comm.dt.comm.world(), count)
traffic = flat.layout.lane.traffic
before = dict(traffic)
comm.reduce_and_publish(flat, reduction)
sent = [traffic[name] - before.get(name, 0) for name in ("exchange bytes", "gather_slices bytes")]
everyones = comm.dt.comm.world().all_gather_object(sent)
if comm.report.rank() == 0:
    print(*map(sum, zip(*everyones)))
"""


@pytest.mark.parametrize("ranks, node", [(2, 1), (3, 1), (4, 2)])
def test_the_models_bytes_are_those_that_are_sent(tmp_path, python_here, ranks, node):
    program = tmp_path / "traffic.py"
    program.write_text(TRAFFIC)
    output = mpi.run(python_here, ranks, program, BLOCKS, DIST_TRAIN_NODE_SIZE=node).stdout
    nodes = ranks // node
    expected = [model.exchange_bytes(BLOCKS, nodes) * nodes, model.gather_bytes(BLOCKS, nodes) * nodes]
    assert list(map(int, output.split())) == expected


# the namespaces


@pytest.mark.parametrize("rate, expected", [("1gbit", 1e9), ("250mbit", 250e6), ("2.5kbit", 2500), ("7bit", 7)])
def test_rates_as_tc_writes_them(rate, expected):
    assert networks.bits_per_second(rate) == expected


@pytest.mark.parametrize("rate", ["fast", "1gbps", ""])
def test_other_rates_are_refused(rate):
    with pytest.raises(ValueError, match="a rate is a number"):
        networks.bits_per_second(rate)


@pytest.fixture
def two_nodes():
    with networks.attempted(2, "1gbit") as network:
        if isinstance(network, str):
            pytest.skip(f"needs namespaces: {network}")
        yield network
    assert not own_namespaces()


def own_namespaces():
    return [name for name in networks.namespaces() if name.startswith(f"dist-train-{os.getpid()}-")]


def test_each_namespace_is_a_node_and_the_link_is_no_faster_than_its_rate(two_nodes, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("""
import time
from mpi4py import MPI
import numpy as np
world = MPI.COMM_WORLD
node, other = world.Split_type(MPI.COMM_TYPE_SHARED), 1 - world.rank
send, receive = np.full(10**7, world.rank, np.uint8), np.empty(10**7, np.uint8)
start = time.perf_counter()
world.Sendrecv(send, other, 0, receive, other, 0)
found = world.gather((node.size, bool((receive == other).all()), time.perf_counter() - start > 0.07))
if world.rank == 0:
    print(found)
""")
    command = two_nodes.command(1, sys.executable, str(program))
    result = subprocess.run(command, env=two_nodes.environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[(1, True, True), (1, True, True)]\n"


def test_namespaces_go_when_the_block_fails(two_nodes):
    assert len(own_namespaces()) == 3  # two nodes and what joins them
    with pytest.raises(ZeroDivisionError), two_nodes:
        raise ZeroDivisionError
    assert not own_namespaces()


@pytest.mark.parametrize("number, left", [(signal.SIGTERM, False), (signal.SIGKILL, True)])
def test_a_process_that_is_ended_leaves_nothing_for_good(two_nodes, number, left):
    two_nodes.close()
    imports = f"import os, sys, time; sys.path.insert(0, {str(BENCHMARKS)!r}); import network"
    steps = f"network.Network(1, None); os.kill(os.getpid(), {int(number)}); time.sleep(60)"
    victim = subprocess.Popen([sys.executable, "-c", f"{imports}; {steps}"])
    victim.wait(60)
    assert any(f"-{victim.pid}-" in name for name in networks.namespaces()) == left
    networks.remove_stale()
    assert not any(f"-{victim.pid}-" in name for name in networks.namespaces())


def test_without_its_tools_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(networks, "mpiexec", lambda: (_ for _ in ()).throw(OSError("no mpiexec")))
    with networks.attempted(2, "1gbit") as network:
        assert network == "no mpiexec"


# the benchmarks themselves


def test_comm(tmp_path, python_here):
    path = tmp_path / "comm.json"
    output = mpi.run(python_here, 2, BENCHMARKS / "comm.py", "--sizes", "4KB", "64KB", "--rounds", "2", "--json", path).stdout
    report = json.loads(path.read_text())
    assert [row["bytes"] for row in report["rows"]] == [4096, 65536]
    for row in report["rows"]:
        assert {"dist_train 1 × 2", "dist_train 2 × 1", "Allreduce", "Allreduce in place"} <= set(row["seconds"])
        assert all(0 < row["fastest"][name] <= seconds for name, seconds in row["seconds"].items())
        assert row["floor"] == pytest.approx(5 * row["bytes"] / report["bandwidth"])
        assert row["ratios"]["floor"] == pytest.approx(row["seconds"]["dist_train 1 × 2"] / row["floor"])
    assert "65536" in output


def test_comm_needs_ranks(python_here):
    result = mpi.run(python_here, 1, BENCHMARKS / "comm.py", check=False)
    assert result.returncode == 1 and "mpirun -n 2" in result.stderr


def test_scaling_without_networks(tmp_path, python_here):
    path, picture = tmp_path / "scaling.json", tmp_path / "scaling.png"
    options = ["--workloads", "mlp_seed", "--rounds", "1", "--networks", "--json", path, "--plot", picture]
    output = mpi.run(python_here, 1, BENCHMARKS / "scaling.py", *options).stdout
    report = json.loads(path.read_text())
    assert [(row["nodes"], row["ranks of a node"]) for row in report["rows"]] == [(1, 1), (1, 2), (2, 1), (1, 4), (2, 2), (4, 1)]
    assert all(0 < row["overlapped"] <= row["serial"] * (1 + 1e-9) and 0 < row["fastest"] <= row["median"] for row in report["rows"])
    assert all(len(curve["step"]) == 17 and min(curve["step"].values()) > 0 for curve in report["curves"])
    assert report["overlap"] == [] and report["no_networks"] is None
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "65536 ranks" in output


def test_scaling_over_a_network(two_nodes, tmp_path, python_here):
    two_nodes.close()
    path = tmp_path / "scaling.json"
    mpi.run(python_here, 1, BENCHMARKS / "scaling.py", "--workloads", "mlp_seed", "--rounds", "1", "--networks", "1gbit", "--json", path)
    report = json.loads(path.read_text())
    assert [(row["nodes"], row["ranks of a node"], row["joined by"]) for row in report["overlap"]] == [
        (nodes, ranks, "1gbit") for nodes, ranks in ((2, 1), (2, 2), (4, 1))
    ]
    assert all(row["ratio"] == pytest.approx(row["step"] / max(row["compute"], row["communication"])) for row in report["overlap"])
