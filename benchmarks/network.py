"""Nodes on one machine: network namespaces joined by links of limited rate, so that an MPI job really sends what it sends between nodes.

    with Network(2, "1gbit") as network:
        subprocess.run(network.command(1, "python", "program.py"), env=network.environment(), check=True)

A hub namespace holds a bridge, like a switch with one port for each node; `tc` limits every port in both directions. Needs root, `ip`,
`tc` and MPICH's mpiexec, which starts the ranks through a script in ssh's place; `OSError` says what is missing. The machine's own
interfaces are not touched, and the namespaces go when the block ends, when the process ends, or at the latest with the next `Network`.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

_PREFIX = "dist-train-"
_SUBNET = "10.77.0."  # the same for all: nothing leaves the hub namespace
_HUB = f"{_SUBNET}254"
_LAUNCHER = """#!/bin/sh
# takes the place of ssh [options] host command...
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec %s-${host##*.} sh -c "$*"
"""
# Without the first three MPI finds that all ranks are on one machine, and goes round the links. (UCX over TCP works too, but sends and
# receives in turn at times: 667 ms instead of 350 for an all-gather of 80 MB at 1 Gbit/s.) The last: nodes share this machine's cores.
TRANSPORT = {"MPIR_CVAR_CH4_NETMOD": "ofi", "FI_PROVIDER": "tcp", "FI_TCP_IFACE": "wire", "MPIR_CVAR_POLLS_BEFORE_YIELD": "1"}


class Network:
    """`nodes` namespaces whose links carry `rate` (as `tc` writes it: "1gbit") each way; None leaves them as fast as they are."""

    def __init__(self, nodes: int, rate: str | None) -> None:
        self.nodes, self.rate = nodes, rate
        self.name = f"{_PREFIX}{os.getpid()}"
        self._mpiexec = mpiexec()
        self._files = tempfile.TemporaryDirectory()
        remove_stale()
        atexit.register(self.close)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # which would end the process without its exit functions
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the namespaces and with them the links. May be called twice."""
        atexit.unregister(self.close)
        _remove(name for name in namespaces() if name.startswith(f"{self.name}-"))
        self._files.cleanup()

    def addresses(self) -> list[str]:
        return [f"{_SUBNET}{node + 1}" for node in range(self.nodes)]

    def command(self, ranks_per_node: int, *words: str) -> list[str]:
        """The command line that runs `words` on all nodes."""
        launcher = ["-launcher", "ssh", "-launcher-exec", f"{self._files.name}/launcher", "-localhost", _HUB]
        ranks = ["-hosts", ",".join(self.addresses()), "-n", str(self.nodes * ranks_per_node), "-ppn", str(ranks_per_node)]
        return ["ip", "netns", "exec", f"{self.name}-hub", self._mpiexec, *launcher, *ranks, *words]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **TRANSPORT}

    def _build(self) -> None:
        hub = f"{self.name}-hub"
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "address", "add", f"{_HUB}/24", "dev", "bridge")
        for device in ("lo", "bridge"):
            _ip("-n", hub, "link", "set", "dev", device, "up")
        for number, address in enumerate(self.addresses(), 1):
            self._add_node(hub, f"{self.name}-{number}", f"port{number}", address)
        script = Path(self._files.name, "launcher")
        script.write_text(_LAUNCHER % self.name)
        script.chmod(0o700)

    def _add_node(self, hub: str, node: str, port: str, address: str) -> None:
        _ip("netns", "add", node)
        _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "wire", "netns", node)
        _ip("-n", hub, "link", "set", "dev", port, "master", "bridge", "up")
        _ip("-n", node, "address", "add", f"{address}/24", "dev", "wire")
        for device in ("lo", "wire"):
            _ip("-n", node, "link", "set", "dev", device, "up")
        if self.rate is not None:
            limit(node, "wire", self.rate)
            limit(hub, port, self.rate)


def limit(namespace: str, device: str, rate: str) -> None:
    """Let `device` send no faster than `rate`, with a burst of 2 ms and a queue of 50 ms."""
    burst = max(256 * 1024, int(bits_per_second(rate) / 8 * 2e-3))
    _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", str(burst), "latency", "50ms")


def bits_per_second(rate: str) -> float:
    """Of a rate as `tc` writes it: "10gbit", "250mbit"."""
    match = re.fullmatch(r"([\d.]+)([kmgt]?)bit", rate)
    if match is None:
        raise ValueError(f"a rate is a number with kbit, mbit or gbit, not {rate!r}")
    return float(match[1]) * 1000.0 ** " kmgt".index(match[2] or " ")


def mpiexec() -> str:
    """This environment's mpiexec; OSError where it is not Hydra, whose launcher a script can replace."""
    path = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if path is None:
        raise OSError("no mpiexec")
    if "HYDRA" not in subprocess.run([path, "--version"], capture_output=True, text=True).stdout:
        raise OSError(f"{path} is not MPICH's: ranks in namespaces are started through its -launcher-exec")
    return path


def namespaces() -> list[str]:
    """Those that this module has made, whichever process did."""
    listed = _run("ip", "netns", "list").splitlines() if shutil.which("ip") else []
    return [line.split()[0] for line in listed if line.startswith(_PREFIX)]


def remove_stale() -> None:
    """The namespaces of processes that are gone."""
    _remove(name for name in namespaces() if not Path("/proc", name.removeprefix(_PREFIX).partition("-")[0]).exists())


def _remove(names: Iterator[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> str:
    """What the command prints; OSError with what it complains about."""
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode:
        raise OSError(f"{' '.join(words)}: {result.stderr.strip()}")
    return result.stdout


@contextmanager
def attempted(nodes: int, rate: str | None) -> Iterator[Network | str]:
    """The network, or why there can be none here."""
    try:
        network = Network(nodes, rate)
    except OSError as error:
        yield str(error)
        return
    with network:
        yield network
