"""The product as a caller uses it: over HTTP, one instance and one Milvus database per test."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.api import Answer
from stack.deploy import Deployment
from stack.local_stack import LocalStack
from stack.process import poll

# Another region in which the stack keeps snapshots. Only the stack's own region has a price.
ELSEWHERE = "eu-central-1"
PRICES = [{"region": "eu-west-1", "from": "2026-01-01", "currency": "EUR", "storageGibHour": "0.0000315"}]

ENDED = ("AVAILABLE", "FAILED", "CANCELLED", "COMPLETED", "ROLLED_BACK")


@dataclass(frozen=True)
class Product:
    stack: LocalStack
    instance: str
    database: str
    deployment: Deployment

    @property
    def path(self) -> str:
        return f"/instances/{self.instance}"

    def call(self, method: str, below: str = "", body: Any = None, **options: Any) -> Answer:
        return self.deployment.api.call(method, self.path + below, body, **options)

    def register(self, **changes: Any) -> Any:
        body = {
            "name": self.instance,
            "endpoint": self.stack.milvus.uri,
            "region": self.deployment.api.region,
            "storage": {"bucket": self.stack.milvus_bucket, "rootPath": "files"},
        }
        return self.call("PUT", "", body | changes).expect(200, 201)

    def start_backup(self, name: str, **more: Any) -> str:
        """Starts a backup of the test's database and returns the backup's id."""
        body = {"name": name, "collections": [f"{self.database}.*"]} | more
        answer = self.call("POST", "/backups", body)
        backup = answer.expect(202)
        assert answer.headers["location"] == f"{self.path}/backups/{backup['backupId']}"
        assert backup["status"] == "PENDING" and backup["name"] == name
        return backup["backupId"]

    def backup(self, name: str, **more: Any) -> Any:
        """A backup that must become available."""
        return self.ended(f"/backups/{self.start_backup(name, **more)}", "AVAILABLE")

    def start_restore(self, **body: Any) -> str:
        answer = self.call("POST", "/restores", body)
        restore = answer.expect(202)
        assert answer.headers["location"] == f"{self.path}/restores/{restore['restoreId']}"
        return restore["restoreId"]

    def restore(self, **body: Any) -> Any:
        """A restore that must complete."""
        return self.ended(f"/restores/{self.start_restore(**body)}", "COMPLETED")

    def ended(self, below: str, *statuses: str, seconds: float = 240) -> Any:
        """The job at this path once it has ended; its status must then be one of `statuses`."""
        found = self.until(below, lambda job: job["status"] in ENDED, seconds)
        assert found["status"] in statuses, found
        return found

    def until(self, below: str, condition: Callable[[Any], bool], seconds: float = 120) -> Any:
        """The object at this path as soon as `condition` holds for it."""
        found: Any = None

        def holds() -> bool:
            nonlocal found
            found = self.call("GET", below).expect(200)
            return condition(found)

        assert poll(holds, seconds, every=0.1), found
        return found

    def sweep(self, **event: Any) -> Any:
        """Invokes the sweep directly and returns its report."""
        return self.invoke("retention-sweep", event)

    def invoke(self, function: str, event: Any) -> Any:
        answer = self.stack.emulator.client("lambda").invoke(
            FunctionName=self.deployment.functions[function], Payload=json.dumps(event)
        )
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def processes(self, function: str) -> list[int]:
        """A function's processes, all of them children of the emulator that we started."""
        variable = f"AWS_LAMBDA_FUNCTION_NAME={self.deployment.functions[function]}".encode()
        emulator = self.stack.emulator.process_id.pid
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                parent = int(process.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                environment = process.joinpath("environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended
            if parent == emulator and variable in environment:
                found.append(int(process.name))
        return found

    def peak_memory(self, function: str) -> int:
        """The most memory, in bytes, that any of a function's processes has had so far."""
        peaks = [0]
        for pid in self.processes(function):
            status = Path(f"/proc/{pid}/status").read_text()
            peaks += [int(kilobytes) * 1024 for kilobytes in re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)]
        return max(peaks)

    def kill(self, function: str) -> int:
        """Kills a function's processes and returns how many."""
        killed = 0
        for process in self.processes(function):
            with suppress(ProcessLookupError):  # it has ended
                os.kill(process, signal.SIGKILL)
                killed += 1
        return killed

    def stored(self, below: str = "objects/") -> dict[str, int]:
        """Keys and sizes of the instance's objects in the snapshot bucket."""
        pages = self.stack.emulator.client("s3").get_paginator("list_objects_v2").paginate(
            Bucket=self.deployment.snapshot_bucket, Prefix=f"{self.instance}/{below}"
        )
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def staged(self) -> list[str]:
        """Keys of the objects that restores left in Milvus's own bucket."""
        s3 = self.stack.emulator.client("s3")
        listing = s3.list_objects_v2(Bucket=self.stack.milvus_bucket, Prefix="milvault-staging/")
        return [item["Key"] for item in listing.get("Contents", [])]
