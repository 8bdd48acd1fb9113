"""The AWS emulator (MiniStack): one process that speaks every service that the template needs.

It enforces IAM: each function has only the permissions of its role in the template, so a missing permission is found
here and not in an account.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from stack.process import ProcessId, free_ports, poll, spawn, tail

REGION = "eu-west-1"
# The emulator's root credentials. They give access only to a process on this machine's loopback interface.
ACCESS_KEY_ID = "milvault-local"
SECRET_ACCESS_KEY = "milvault-local-secret"


def client(service: str, endpoint_url: str, region: str = REGION) -> Any:
    """A boto3 client of a running emulator, with its root credentials."""
    return boto3.client(
        service,
        endpoint_url=endpoint_url,
        region_name=region,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(s3={"addressing_style": "path"}, read_timeout=900, retries={"total_max_attempts": 1}),
    )


class Emulator:
    """One emulator process with a separate directory. Its data is in memory and lost when it stops."""

    def __init__(self, directory: Path, *, dies_with_us: bool = True) -> None:
        self.directory = directory
        self.port = free_ports(1)[0]
        self.log = directory / "emulator.log"
        self._dies_with_us = dies_with_us
        self._process: subprocess.Popen[bytes] | None = None
        self._id: ProcessId | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process_id(self) -> ProcessId:
        if self._id is None:
            raise RuntimeError("the emulator isn't running")
        return self._id

    def start(self) -> None:
        temporary = self.directory / "tmp"  # the emulator unpacks the functions here
        temporary.mkdir(parents=True, exist_ok=True)
        env = {
            # No other variables: a developer's AWS settings must not reach the emulator or the functions.
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "TMPDIR": str(temporary),
            "AUTH": "true",
            "IOT_MTLS_ENABLED": "false",  # otherwise it opens a port on every interface
            "SFTP_ENABLED": "false",
            "MINISTACK_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_ENDPOINT_URL": self.endpoint_url,  # the emulator passes this to the functions
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._process = spawn(
            [sys.executable, "-m", "ministack"],
            env=env,
            cwd=self.directory,
            log=self.log,
            dies_with_us=self._dies_with_us,
        )
        self._id = ProcessId.of(self._process.pid)
        if not poll(self._is_healthy, 60):
            raise RuntimeError(f"the AWS emulator doesn't answer:\n{tail(self.log)}")

    def stop(self) -> None:
        if self._process is None or self._id is None:
            return
        self._id.stop(grace=3)
        self._process.wait(10)
        self._process = None

    def client(self, service: str, region: str = REGION) -> Any:
        """A boto3 client of one of the emulator's services."""
        return client(service, self.endpoint_url, region)

    def _is_healthy(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the AWS emulator ended at once:\n{tail(self.log)}")
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/_ministack/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
