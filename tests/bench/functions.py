"""Each function as it goes to AWS: the size of its zip, and the time from exec to its first request for an invocation.

Fails where a bound doesn't hold: 4 MB, and 15 ms in the median of some starts.
"""

from __future__ import annotations

import io
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from stack.deploy import build

STARTS = 21
LARGEST_ZIP = 4_000_000
SLOWEST_START = 15.0  # milliseconds
SETTINGS = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_LAMBDA_FUNCTION_NAME": "measured",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_LOG_GROUP_NAME": "none",
    "AWS_LAMBDA_LOG_STREAM_NAME": "none",
    "CATALOG_TABLE": "catalog",
    "SNAPSHOT_BUCKET": "snapshots",
    "ALLOWED_ENDPOINTS": "127.0.0.0/8",
    "CURSOR_KEY": "measured",
    "CREATE_BACKUP_FUNCTION": "create-backup",
    "RESTORE_FUNCTION": "restore",
    "SCHEDULE_GROUP": "milvault",
    "SCHEDULED_FUNCTION_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:create-backup",
    "SCHEDULE_ROLE_ARN": "arn:aws:iam::123456789012:role/schedules",
    "SCHEDULE_DEAD_LETTERS_ARN": "arn:aws:sqs:eu-west-1:123456789012:dead-letters",
    "METRICS_NAMESPACE": "Milvault/milvault",
}


def zipped(executable: Path) -> int:
    """The bytes of the zip that is uploaded."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        bundle.write(executable, "bootstrap")
    return len(archive.getvalue())


def started(executable: Path) -> float:
    """Milliseconds until the function asks Lambda's runtime interface, played by us, for its first invocation."""
    with socket.create_server(("127.0.0.1", 0)) as interface:
        environment = {**SETTINGS, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{interface.getsockname()[1]}"}
        began = time.monotonic()
        function = subprocess.Popen([executable], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            if not select.select([interface], [], [], 10)[0]:
                function.kill()
                sys.exit(f"{executable.name} asks for nothing: {function.communicate()[0].decode(errors='replace')}")
            connection, _ = interface.accept()
            with connection:
                asked = connection.recv(65_536)
                took = time.monotonic() - began
                assert b"/runtime/invocation/next" in asked, asked
        finally:
            function.kill()
            function.communicate()
    return took * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        binaries = build(Path(directory) / "build.log", "--release", "--exclude", "milvault-client")
    folder = Path(__file__).parents[2] / "functions"
    functions = sorted(name for name in binaries if (folder / name).is_dir())
    assert len(functions) == sum((path / "src/main.rs").exists() for path in folder.iterdir()), functions
    print(f"{'function':16} {'zip':>10} {'start, median':>15} {'slowest':>10}")
    too_much = []
    for name in functions:
        size, starts = zipped(binaries[name]), [started(binaries[name]) for _ in range(STARTS)]
        median = statistics.median(starts)
        print(f"{name:16} {size / 1e6:7.2f} MB {median:12.1f} ms {max(starts):7.1f} ms", flush=True)
        if size > LARGEST_ZIP or median > SLOWEST_START:
            too_much.append(name)
    if too_much:
        sys.exit(f"over a bound ({LARGEST_ZIP / 1e6:.0f} MB, {SLOWEST_START:.0f} ms): {', '.join(too_much)}")


if __name__ == "__main__":
    os.environ.setdefault("CARGO_TERM_COLOR", "never")
    main()
