"""Programs that only tests need, which the workspace has as examples."""

from __future__ import annotations

import json
import subprocess

from stack.deploy import ROOT


def build_example(name: str) -> str:
    """Compiles an example, with the whole workspace, so that nothing is compiled with other features; where it is."""
    command = ["cargo", "build", "--workspace", "--example", name, "--message-format=json-render-diagnostics"]
    build = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    messages = (json.loads(line) for line in build.stdout.splitlines() if line.startswith(b"{"))
    return next(m["executable"] for m in messages if m["reason"] == "compiler-artifact" and m.get("executable"))
