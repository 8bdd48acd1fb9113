"""The local stack: the emulator, a Milvus on its S3, and the deployed product."""

from __future__ import annotations

import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from stack.api import Api
from stack.deploy import ROOT, Deployment, build, deploy, function_logs
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Emulator
from stack.milvus_server import MilvusServer, ObjectStorage

LOCAL = ROOT / "target" / "local"


class LocalStack:
    """A running stack with a separate directory. Leaving the context stops everything and removes the directory.

    After a failure, the directory is kept with the functions' logs, and its path is printed to standard error. Set
    `keep` if a failure doesn't leave the context as an exception, for example in a test.
    """

    def __init__(
        self,
        *,
        parameters: Mapping[str, str | int] | None = None,
        environment: Mapping[str, str] | None = None,
        milvus_bucket: str = "milvus-data",
        milvus_ports: Sequence[int] = (),
        report: Callable[[str], None] = lambda _: None,
        dies_with_us: bool = True,
    ) -> None:
        """`parameters` override the template's; `environment` is added to the functions'; `report` is called with
        each step.

        `milvus_ports` are tried first for the first Milvus.
        """
        LOCAL.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="run-", dir=LOCAL))
        self.keep = False
        self.milvus_bucket = milvus_bucket
        self.emulator = Emulator(self.directory, dies_with_us=dies_with_us)
        self.milvus_servers: list[MilvusServer] = []
        self._milvus_numbers = itertools.count(1)
        self._milvus_ports = milvus_ports
        self.binaries: Mapping[str, Path] = {}
        self._parameters = parameters
        self._environment = environment
        self._report = report
        self._dies_with_us = dies_with_us
        self._deployment: Deployment | None = None

    @property
    def deployment(self) -> Deployment:
        if self._deployment is None:
            raise RuntimeError("the stack isn't up")
        return self._deployment

    @property
    def api(self) -> Api:
        return self.deployment.api

    @property
    def client_url(self) -> str:
        """The API's address for the command-line client: a name that resolves to this machine."""
        return f"http://{self.api.host}"

    @property
    def milvus(self) -> MilvusServer:
        """The first server; `start_milvus` starts others."""
        return self.milvus_servers[0]

    def up(self) -> None:
        """Starts everything. After an error, nothing is left running."""
        try:
            self.emulator.start()
            self._report(f"AWS emulator on {self.emulator.endpoint_url}")
            milvus = self.start_milvus(self.milvus_bucket)  # starts while the functions compile
            self.binaries = build(self.directory / "build.log", "--examples")
            self._report(f"{len(self.binaries)} programs built")
            self._deployment = deploy(
                self.emulator, self.binaries, parameters=self._parameters, environment=self._environment
            )
            self._report("infra/template.yaml deployed")
            milvus.wait_healthy()
            self._report(f"Milvus on {milvus.uri}")
        except Exception:
            self.down()
            raise
        except BaseException:  # interrupted: there is no failure to examine
            self.remove()
            raise

    def start_milvus(self, bucket: str, root_path: str = "files", region: str = REGION) -> MilvusServer:
        """Starts a Milvus with its data in `bucket`, which is created if it doesn't exist. Wait for it to be healthy.

        Call this on the stack's thread: the server dies with the thread that started it.
        """
        s3 = self.emulator.client("s3", region)
        if bucket not in [existing["Name"] for existing in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
        storage = ObjectStorage(
            "127.0.0.1", self.emulator.port, ACCESS_KEY_ID, SECRET_ACCESS_KEY, region, bucket, root_path
        )
        server = MilvusServer(
            # Never the directory of an earlier server, whose metadata names files in another place.
            self.directory / f"milvus-{next(self._milvus_numbers)}",
            storage,
            binaries=LOCAL / "milvus",
            preferred_ports=() if self.milvus_servers else self._milvus_ports,
            dies_with_us=self._dies_with_us,
        )
        self.milvus_servers.append(server)
        server.start()
        return server

    def add_deployment(self, name: str, parameters: Mapping[str, str | int]) -> Deployment:
        """Deploys the product a second time, for a test that needs other settings."""
        return deploy(self.emulator, self.binaries, name=name, parameters=parameters, environment=self._environment)

    def set_clock_ahead(self, function: str, by: timedelta) -> None:
        """Sets a function's clock ahead, so that hours pass for the meter. `function` is its name in the account."""
        client = self.emulator.client("lambda")
        variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        variables["CLOCK_AHEAD_SECONDS"] = str(int(by.total_seconds())) if by else ""
        client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

    def down(self) -> None:
        """Stops everything that was started."""
        for server in self.milvus_servers:
            server.kill()
        self.emulator.stop()

    def remove(self) -> None:
        """Stops everything and removes the directory."""
        self.down()
        shutil.rmtree(self.directory, ignore_errors=True)

    def logs(self) -> str:
        """The functions' logs."""
        return function_logs(self.emulator.client("logs"), self.deployment.log_group)

    def __enter__(self) -> LocalStack:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = kind is not None and issubclass(kind, Exception)
        if not (failed or self.keep):
            self.remove()
            return
        try:
            (self.directory / "functions.log").write_text(self.logs())
        finally:
            self.down()
        print(f"Kept for examination: {self.directory}", file=sys.stderr)
