"""Child processes of the stack.

A pid alone doesn't identify a process: after the process has died, another one can get the number. So a process is
identified by its pid and its start time, and only a process that matches both is ever signalled.
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

# Below the range of the kernel's ports for outgoing connections, so that no connection takes a free port before the
# server binds it.
PORTS = range(20000, 32000)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessId:
    """A process that is identified for good: by its pid and its start time in the kernel's clock ticks.

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
        """Ends the process and its children: with SIGTERM if there is a grace period (in seconds), then SIGKILL."""
        if grace and self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
            poll(lambda: not self.is_alive(), grace)
        # Its children are in its group, even after it has ended: while a group has members, its number isn't reused.
        stat = _stat(self.pid)
        if stat is None or stat.started == self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        poll(lambda: not self.is_alive(), 10)


def spawn(
    command: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path, dies_with_us: bool
) -> subprocess.Popen[bytes]:
    """Starts a process with output to `log`, in a separate group, so that Ctrl-C in the terminal doesn't reach it."""
    libc = ctypes.CDLL(None)  # before the fork, because imports and allocations aren't safe after it
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
    """Different free ports, beginning with those of the preferred ones that are free."""
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
    """The result of `condition`, as soon as it is true, or after `seconds`."""
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
    """Whether the process has ended. It keeps its pid until its parent has waited for it."""


def _stat(pid: int) -> _Stat | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name may have spaces and parentheses; the fields after it don't.
    fields = stat.rpartition(")")[2].split()
    return _Stat(started=int(fields[19]), ended=fields[0] == "Z")
