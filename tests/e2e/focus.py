"""The FOCUS validator, run on a file of usage."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path


def failures(csv_text: str) -> list[str]:
    """The rules of FOCUS 1.0 that the file breaks."""
    spec = find_spec("focus_validator")
    assert spec is not None and spec.origin is not None
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "usage.csv"
        file.write_text(csv_text)
        ran = subprocess.run(
            [sys.executable, "-c", "from focus_validator.main import main; main()"]
            + ["--data-file", str(file), "--validate-version", "1.0"],
            cwd=Path(spec.origin).parents[1],  # the validator looks for its list of currencies from here
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    said = ran.stdout + ran.stderr
    found = [line for line in said.splitlines() if line.endswith(" failed:")]
    assert found or "Validation succeeded." in said, said
    return found
