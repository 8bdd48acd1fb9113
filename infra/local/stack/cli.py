"""`up`, `down` and `logs`: a stack that keeps running, for manual work."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from stack import milvus_server, state
from stack.deploy import function_logs
from stack.emulator import client
from stack.local_stack import LocalStack

CALLS = """\
Try it (in this folder):
  . target/stack.env
  milvault instance register demo --endpoint "$MILVUS_URI" --bucket "$MILVUS_BUCKET"
  milvault instance check demo
  milvault backup create demo first
README.md shows more, docs/api.md the same with curl. Stop it: make down
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the process's exit code."""
    parser = argparse.ArgumentParser(prog="stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the stack and leave it running")
    commands.add_parser("down", help="stop it")
    commands.add_parser("logs", help="what its functions logged")
    command = parser.parse_args(arguments).command
    return {"up": up, "down": down, "logs": logs}[command]()


def up() -> int:
    running = state.processes()
    if running:
        print(f"Already up: {state.DESCRIPTION} (make down stops it).")
        return 0
    _clean()
    started = time.monotonic()
    # Milvus's usual port if it is free, because events/instances.json has it.
    stack = LocalStack(milvus_ports=[19530], report=lambda step: print(f"  {step}", flush=True), dies_with_us=False)
    try:
        stack.up()
        state.save(stack)
    except KeyboardInterrupt:
        stack.remove()
        return 130
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Up in {time.monotonic() - started:.0f} s: {state.DESCRIPTION}\n")
    print(CALLS, end="")
    return 0


def down() -> int:
    running = state.processes()
    if not running:
        print("Nothing is up.")
    for process in running:
        milvus_server.stop(process)
    _clean()
    if running:
        print("Stopped.")
    return 0


def logs() -> int:
    if not state.processes():
        print("Nothing is up.", file=sys.stderr)
        return 1
    stack = state.description()
    sys.stdout.write(function_logs(client("logs", stack["endpointUrl"]), stack["logGroup"]))
    return 0


def _clean() -> None:
    directory = state.directory()
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
    state.forget()
