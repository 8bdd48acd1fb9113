"""Child processes that we own.

A pid alone doesn't say whose process it is: after ours has died, the number can belong to somebody else. So a process
is remembered by its pid and its start time, and only one that matches both is ever signalled.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

# Below the range from which the kernel takes the local ports of outgoing connections: a port that is free now isn't
# taken by a passing connection before the server binds it.
PORTS = range(20000, 32000)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessId:
    """A process for good: the pid and when it started, in the kernel's clock ticks.

    psutil gives the start in seconds since the epoch, which change with the machine's clock.
    """

    pid: int
    started: int

    @staticmethod
    def of(pid: int) -> ProcessId:
        stat = _stat(pid)
        return ProcessId(pid, stat.started if stat else 0)

    def is_alive(self) -> bool:
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and not stat.ended

    def stop(self, grace: float) -> None:
        """Ends the process and what it started: asks first if there is a grace period (in seconds), then kills."""
        if grace and self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
            poll(lambda: not self.is_alive(), grace)
        # Its children are in its group, also once it is gone: while a group has members, its number isn't reused.
        stat = _stat(self.pid)
        if stat is None or stat.started == self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        poll(lambda: not self.is_alive(), 10)


def spawn(
    command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path, dies_with_us: bool
) -> subprocess.Popen[bytes]:
    """Starts a process that leads a group of its own (a Ctrl-C in our terminal is ours to handle), output to `log`."""
    libc = ctypes.CDLL(None)  # before the fork: after it, nothing may be imported or allocated lightly
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=(lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)) if dies_with_us else None,
        )


def free_ports(count: int, preferred: Sequence[int] = ()) -> list[int]:
    """Ports that nobody listens on, all different; the preferred ones first, those of them that are free."""
    found: list[int] = []
    for port in [*preferred, *random.sample(PORTS, len(PORTS))]:
        with socket.socket() as probe:
            try:
                probe.bind(("", port))  # on all interfaces, as Milvus does
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}")


def poll(condition: Callable[[], T], seconds: float, every: float = 0.05) -> T:
    """What `condition` answers, as soon as that is true, and after `seconds` in any case."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(every)


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True)
class _Stat:
    started: int
    ended: bool
    """A process that has ended keeps its pid until its parent has heard of it."""


def _stat(pid: int) -> _Stat | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name may hold spaces and parentheses; the fields that follow it don't.
    fields = stat.rpartition(")")[2].split()
    return _Stat(started=int(fields[19]), ended=fields[0] == "Z")
