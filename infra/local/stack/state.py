"""The records of `up`: target/stack.json and target/stack.env for the stack's users, and the processes for `down`.

`down` stops only these processes, and only if they are still the same.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stack.deploy import ROOT
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from stack.local_stack import LOCAL, LocalStack
from stack.process import ProcessId

DESCRIPTION = ROOT / "target" / "stack.json"
ENVIRONMENT = ROOT / "target" / "stack.env"
PROCESSES = LOCAL / "up.json"


def describe(stack: LocalStack) -> dict[str, Any]:
    """The description of a stack for its users."""
    deployment = stack.deployment
    functions = stack.emulator.client("lambda")
    settings = {}
    for name in deployment.functions.values():
        settings |= functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    return {
        "apiUrl": deployment.api.url,
        "apiHost": deployment.api.host,
        "clientUrl": stack.client_url,
        "client": str(stack.binaries["milvault"]),
        "endpointUrl": stack.emulator.endpoint_url,
        "region": REGION,
        "accessKeyId": ACCESS_KEY_ID,
        "secretAccessKey": SECRET_ACCESS_KEY,
        "milvusUri": stack.milvus.uri,
        "milvusManagementUri": stack.milvus.management_uri,
        "milvusBucket": stack.milvus_bucket,
        "snapshotBucket": deployment.snapshot_bucket,
        "catalogTable": deployment.catalog_table,
        "logGroup": deployment.log_group,
        "functions": dict(deployment.functions),
        "settings": settings,
    }


def save(stack: LocalStack) -> None:
    """Records a running stack."""
    description = describe(stack)
    processes = [server.process_id for server in stack.milvus_servers] + [stack.emulator.process_id]
    record = {
        "directory": str(stack.directory),
        "processes": [{"pid": process.pid, "started": process.started} for process in processes],
    }
    PROCESSES.write_text(json.dumps(record, indent=2) + "\n")
    DESCRIPTION.write_text(json.dumps(description, indent=2) + "\n")
    ENVIRONMENT.write_text(exports(description))


def processes() -> Sequence[ProcessId]:
    """The recorded processes that are still running."""
    record = _record()
    found = [ProcessId(entry["pid"], entry["started"]) for entry in record.get("processes", [])]
    return [process for process in found if process.is_alive()]


def directory() -> Path | None:
    """The recorded stack's directory."""
    path = _record().get("directory")
    return Path(path) if path else None


def description() -> dict[str, Any]:
    """The description of the running stack that `save` recorded."""
    loaded: dict[str, Any] = json.loads(DESCRIPTION.read_text())
    return loaded


def forget() -> None:
    """Removes every record."""
    for path in (PROCESSES, DESCRIPTION, ENVIRONMENT):
        path.unlink(missing_ok=True)


def exports(description: dict[str, Any]) -> str:
    """Shell exports of the settings for the client, and for functions that are started by hand."""
    variables = {
        "AWS_ENDPOINT_URL": description["endpointUrl"],
        "AWS_REGION": description["region"],
        "AWS_DEFAULT_REGION": description["region"],
        "AWS_ACCESS_KEY_ID": description["accessKeyId"],
        "AWS_SECRET_ACCESS_KEY": description["secretAccessKey"],
        **description["settings"],
        "API_URL": description["apiUrl"],
        "API_HOST": description["apiHost"],
        "MILVAULT_URL": description["clientUrl"],
        "MILVUS_URI": description["milvusUri"],
        "MILVUS_BUCKET": description["milvusBucket"],
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    return exports + f'export PATH={shlex.quote(str(_folder_with(Path(description["client"]))))}:"$PATH"\n'


def _folder_with(client: Path) -> Path:
    """A folder with only a link to the client: the binaries beside it have names such as `list` and `delete`."""
    folder = client.parent / "client"
    folder.mkdir(exist_ok=True)
    link = folder / f".{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(client)
    link.replace(folder / client.name)
    return folder


def _record() -> dict[str, Any]:
    if not PROCESSES.exists():
        return {}
    loaded: dict[str, Any] = json.loads(PROCESSES.read_text())
    return loaded
