"""A real Milvus standalone server, from its PyPI wheel, with its data in a bucket of the AWS emulator.

The wheel's launcher only writes the configuration and unpacks the binary. This module starts the binary itself, so that
tests can kill it during a job and `start` it again on the same data and ports.

Every address that Milvus announces is 127.0.0.1, and its embedded etcd listens only there. Its gRPC and management
listeners bind all interfaces (2.3.5), which no configuration changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import milvus
import yaml

from stack.process import ProcessId, free_ports, poll, spawn, tail

COORDINATORS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")


@dataclass(frozen=True)
class ObjectStorage:
    """The location of the server's data."""

    host: str
    port: int
    access_key_id: str
    secret_access_key: str
    region: str
    bucket: str
    root_path: str = "files"


class MilvusServer:
    """One server: a directory for its metadata and logs, its ports, and its location in the object storage."""

    def __init__(
        self,
        directory: Path,
        storage: ObjectStorage,
        *,
        binaries: Path,
        preferred_ports: Sequence[int] = (),
        dies_with_us: bool = True,
    ) -> None:
        """`binaries` is the folder into which the wheel's compressed binary is unpacked, once for all servers."""
        self.directory = directory
        self.storage = storage
        self.log = directory / "milvus.log"
        self._binaries = binaries
        self._dies_with_us = dies_with_us
        self._process: subprocess.Popen[bytes] | None = None
        self._id: ProcessId | None = None
        self._leases: list[str] = []
        """The etcd leases of the sessions of the running or last server."""
        directory.mkdir(parents=True, exist_ok=True)
        names = [key for key in milvus.MilvusServerConfig().configurable_items if key.endswith("_port")]
        names.sort(key=lambda name: name != "proxy_port")  # the port for clients is the preferred one
        *ports, self._etcd_peer_port, self.management_port = free_ports(len(names) + 2, preferred_ports)
        self._ports = dict(zip(names, ports, strict=True))
        self._write_configuration()

    @property
    def port(self) -> int:
        return self._ports["proxy_port"]

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def management_uri(self) -> str:
        return f"http://127.0.0.1:{self.management_port}"

    @property
    def process_id(self) -> ProcessId:
        if self._id is None:
            raise RuntimeError("Milvus isn't running")
        return self._id

    def start(self) -> None:
        """Starts the server, without waiting for it."""
        if self._process is not None:
            raise RuntimeError("Milvus is running already")
        executable = unpack(self._binaries)
        env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self.management_port),
            "MILVUS_RUN_DIR": str(self.directory / "run"),
            "LD_LIBRARY_PATH": str(executable.parent),
            "TMPDIR": str(self.directory),
        }
        self._process = spawn(
            [executable, "run", "standalone"],
            env=env,
            cwd=self.directory,
            log=self.log,
            dies_with_us=self._dies_with_us,
        )
        self._id = ProcessId.of(self._process.pid)

    def wait_healthy(self, seconds: float = 120) -> None:
        """Waits until every component of the server reports that it is healthy."""
        if self._leases:
            if not poll(self._end_sessions, seconds, every=0.1):
                raise RuntimeError(f"Milvus has no metadata after {seconds:.0f} s:\n{tail(self.log)}")
            self._leases = []
        if not poll(self._is_healthy, seconds, every=0.2):
            raise RuntimeError(f"Milvus isn't healthy after {seconds:.0f} s:\n{tail(self.log)}")
        self._leases = [lease["ID"] for lease in self._etcd("leases", {}).get("leases", [])]

    def revive(self) -> str | None:
        """Starts the server again if it ended by itself, as a supervisor would, and then returns the end of its log.

        2.3.5 ends itself when it can't renew its sessions.
        """
        if self._process is None or self._process.poll() is None:
            return None
        said = tail(self.log)
        self.kill()
        self.start()
        self.wait_healthy()
        return said

    def kill(self) -> None:
        """Sends SIGKILL, like a crash. The server is also stopped this way: a graceful stop takes half an hour."""
        if self._process is None or self._id is None:
            return
        stop(self._id)
        self._process.wait(10)
        self._process = None

    def _end_sessions(self) -> bool:
        """Revokes the leases of the killed server's sessions; otherwise its successor waits until they expire."""
        self._require_alive()
        try:
            for lease in self._leases:
                with contextlib.suppress(urllib.error.HTTPError):  # expired, or revoked a moment ago
                    self._etcd("revoke", {"ID": lease})
        except OSError:
            return False
        return True

    def _etcd(self, operation: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports['etcd_port']}/v3/lease/{operation}", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def _require_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"Milvus ended:\n{tail(self.log)}")

    def _is_healthy(self) -> bool:
        self._require_alive()
        try:
            with urllib.request.urlopen(f"{self.management_uri}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _write_configuration(self) -> None:
        config = milvus.MilvusServerConfig(data_dir=str(self.directory), etcd_log_level="warn", **self._ports)
        config.resolve()
        path = self.directory / "configs" / "milvus.yaml"
        settings = yaml.safe_load(path.read_text())
        etcd = self.directory / "configs" / "etcd.yaml"
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._ports["etcd_port"], self._etcd_peer_port))
        etcd.write_text(
            yaml.safe_dump(
                {
                    "listen-client-urls": client,
                    "advertise-client-urls": client,
                    "listen-peer-urls": peer,
                    "initial-advertise-peer-urls": peer,
                    "initial-cluster": f"default={peer}",
                    "enable-grpc-gateway": True,
                    # Without syncs, data survives a killed server, though not a crash of the machine. On a busy disk,
                    # each sync would delay the sessions by seconds.
                    "unsafe-no-fsync": True,
                }
            )
        )
        changes: dict[str, Any] = {
            "etcd": {"config": {"path": str(etcd)}},
            "minio": {
                "address": self.storage.host,
                "port": self.storage.port,
                "accessKeyID": self.storage.access_key_id,
                "secretAccessKey": self.storage.secret_access_key,
                "bucketName": self.storage.bucket,
                "rootPath": self.storage.root_path,
                "region": self.storage.region,
            },
            # By default, the server ends itself if it can't renew a session for 30 s, for example on a machine that
            # compiles. `wait_healthy` ends the sessions of a killed server, so the long time makes no one wait.
            "common": {"storageType": "minio", "session": {"ttl": 300}},
            "log": {"level": "warn", "file": {"rootPath": ""}},
            **{name: {"ip": "127.0.0.1"} for name in COORDINATORS},
        }
        # 64 by default; each end-to-end test has a separate database.
        changes["rootCoord"]["maxDatabaseNum"] = 1024
        path.write_text(yaml.safe_dump(_merged(settings, changes)))


def stop(process: ProcessId) -> None:
    """Kills a server and removes the one file that it writes outside its directory, at a fixed path."""
    process.stop(grace=0)
    Path(f"/tmp/milvus/server_id_{process.pid}").unlink(missing_ok=True)


def unpack(directory: Path) -> Path:
    """Unpacks the wheel's binary and libraries into `directory`, unless they are there. Returns the binary's path."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:  # two stacks may start at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        milvus._initialize_data_files(str(directory))
    return directory / "bin" / "milvus"


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = _merged(below if isinstance(below, dict) else {}, value) if isinstance(value, dict) else value
    return result
