"""The command-line client, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pymilvus import db
from stack import state
from stack.deploy import ROOT
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

from product import Product
from rows import count, drop, fill, rows_of

DONE, REFUSED, USAGE, UNREACHABLE, NOT_CONFIRMED = range(5)


class Client:
    def __init__(self, product: Product, home: Path) -> None:
        self.program = product.stack.binaries["milvault"]
        self.environment = {
            "HOME": str(home),  # nobody's AWS configuration
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "MILVAULT_URL": product.stack.client_url,
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def __call__(self, *arguments: str, code: int = DONE, **environment: str) -> str:
        """What it printed; it must have ended with this code."""
        ran = self.run(*arguments, **environment)
        assert ran.returncode == code, f"{arguments} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran.stdout if code == DONE else ran.stderr


@pytest.fixture
def client(product: Product, tmp_path: Path) -> Client:
    return Client(product, tmp_path)


def words(text: str) -> list[Sequence[str]]:
    return [line.split() for line in text.splitlines()]


def in_a_shell(product: Product, home: Path, commands: str) -> str:
    """What the commands printed, all of which must have succeeded, in a shell that read the stack's settings."""
    settings = home / "stack.env"
    settings.write_text(state.exports(state.describe(product.stack)))
    ran = subprocess.run(
        ["sh", "-e", "-c", f". '{settings}'\n{commands}"],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == DONE, ran.stdout + ran.stderr
    return ran.stdout


def test_readmes_way_from_nothing_to_a_restored_collection(product: Product, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## From nothing to a restored collection")[1]
    lines = section.split("```")[1].splitlines()
    around = ("make up", ". target/stack.env", "make down")
    assert [line.split("  ")[0] for line in lines if line.startswith(around)] == list(around)
    # As written, but for the stack, which is there, and the instance, which is the test's own.
    commands = "\n".join(line for line in lines if not line.startswith(around)).replace("orders", product.instance)
    try:
        *_, queried = in_a_shell(product, tmp_path, commands).splitlines()
    finally:
        db.using_database("default")
        drop("songs")
    assert {row["title"] for row in json.loads(queried)["data"]} == {"Aria", "Ballad"}


def test_a_shell_that_read_the_stacks_settings_has_all_that_the_client_and_the_functions_need(
    product: Product, tmp_path: Path
) -> None:
    said = in_a_shell(product, tmp_path, "milvault --json instance list && env")
    there = {line.split("=", 1)[0] for line in said.splitlines()}
    for name in product.deployment.functions.values():
        described = product.stack.emulator.client("lambda").get_function_configuration(FunctionName=name)
        assert described["Environment"]["Variables"].keys() <= there, name


def test_a_person_backs_up_loses_data_and_restores(product: Product, client: Client) -> None:
    name = f"{product.database}.items"
    collection = fill("items", 500, deleted=20)
    before = rows_of("items")
    milvus, bucket = product.stack.milvus.uri, product.stack.milvus_bucket
    client("instance", "register", product.instance, "--endpoint", milvus, "--bucket", bucket)
    assert product.instance in client("instance", "list")
    assert bucket in client("instance", "show", product.instance)
    assert "PASSED" in client("instance", "check", product.instance)

    created = client("backup", "create", product.instance, "before", "--collection", f"{product.database}.*")
    assert ["status", "AVAILABLE"] in words(created) and name in created
    listed = client("backup", "list", product.instance)
    assert "before" in listed and "MANUAL" in listed and "kB" in listed
    assert json.loads(client("--json", "backup", "show", product.instance, "before"))["entityCount"] == 480
    assert "verification" in client("backup", "verify", product.instance, "before")

    collection.delete(f"id in {list(range(1, 400))}")
    assert count("items") < 480
    restored = client("restore", "start", product.instance, "before", "--keep-previous-hours", "2")
    assert ["status", "COMPLETED"] in words(restored) and "RESTORED" in restored
    assert rows_of("items") == before
    restore = json.loads(client("--json", "restore", "list", product.instance))[0]["restoreId"]
    assert restore in client("restore", "list", product.instance)

    # What can't be undone isn't done by mistake.
    refused = client("restore", "rollback", product.instance, restore, code=NOT_CONFIRMED)
    assert "--yes" in refused
    back = client("restore", "rollback", product.instance, restore, "--yes")
    assert ["status", "ROLLED_BACK"] in words(back)
    assert count("items") < 480
    client("backup", "delete", product.instance, "before", code=NOT_CONFIRMED)
    assert "DELETED" in client("backup", "delete", product.instance, "before", "--yes")
    assert "before" not in client("backup", "list", product.instance)
    client("instance", "remove", product.instance, "--yes")


def test_automatic_backups_are_changed_field_by_field(product: Product, client: Client) -> None:
    def shown(*arguments: str) -> dict[str, Any]:
        answer = json.loads(client("--json", "auto", *arguments))
        return {field: answer[field] for field in ("enabled", "time", "timezone", "retentionDays", "keepAtLeast")}

    plan = {"enabled": True, "time": "04:30:00", "timezone": "Asia/Tokyo", "retentionDays": 3, "keepAtLeast": 2}
    given = ("--time", "04:30", "--timezone", "Asia/Tokyo", "--keep-at-least", "2")
    assert shown("on", product.instance, *given) == plan
    assert shown("on", product.instance, "--retention-days", "5") == plan | {"retentionDays": 5}
    # Or those that it keeps would expire.
    assert shown("off", product.instance, "--yes") == plan | {"enabled": False, "retentionDays": 5}
    assert shown("on", product.instance) == plan | {"retentionDays": 5}
    client("auto", "off", product.instance, "--yes")


def test_what_snapshots_cost_is_shown_and_written_as_a_file(product: Product, client: Client) -> None:
    fill("items", 1_000)
    backup = product.backup("billed")
    usage = product.deployment.functions["usage"]
    product.stack.set_clock_ahead(usage, timedelta(hours=3))
    try:
        product.invoke("usage", {"action": "meter"})
    finally:
        product.stack.set_clock_ahead(usage, timedelta())
    until = (datetime.now(timezone.utc) + timedelta(hours=4)).strftime("%Y-%m-%dT%H:00:00Z")
    of_it = ("--instance", product.instance, "--to", until)
    lines = [line for line in words(client("usage", "--by", "hour", *of_it)) if backup["backupId"] in line]
    assert len(lines) >= 2 and all("EUR" in line and str(backup["sizeBytes"]) in line for line in lines)
    file = client("usage", "--by", "hour", "--focus", *of_it)
    assert len(file.splitlines()) == len(lines) + 1 and file.startswith("AvailabilityZone,")
    assert "VALIDATION_FAILED" in client("usage", "--from", "yesterday", code=REFUSED)


def test_what_goes_wrong_is_said_in_words_and_by_the_exit_code(product: Product, client: Client) -> None:
    assert "BACKUP_NOT_FOUND" in client("restore", "start", product.instance, "nothing", code=REFUSED)
    assert "INSTANCE_NOT_FOUND" in client("backup", "list", "no-such-instance", code=REFUSED)
    assert "VALIDATION_FAILED" in client("backup", "create", product.instance, " ", code=REFUSED)
    assert "OLD=NEW" in client("restore", "start", product.instance, "x", "--rename", "a", code=USAGE)
    client("backup", "crate", product.instance, "x", code=USAGE)
    assert "127.0.0.1" in client("instance", "list", code=UNREACHABLE, MILVAULT_URL="http://127.0.0.1:9")
    no_keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "credentials" in client("instance", "list", code=UNREACHABLE, **no_keys)


def test_with_a_token_calls_carry_it_instead_of_a_signature(client: Client) -> None:
    came: list[str] = []

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.headers["authorization"])
            body = b'{"items": [], "nextCursor": null}'
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.handle_request, daemon=True).start()
        client("instance", "list", MILVAULT_URL=f"http://127.0.0.1:{server.server_port}", MILVAULT_TOKEN="of-an-issuer")
    assert came == ["Bearer of-an-issuer"]


def test_shells_complete_commands(client: Client) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "milvault" in client("completion", shell)
