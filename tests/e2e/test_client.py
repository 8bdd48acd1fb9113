"""The command-line client, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pymilvus import db
from stack import state
from stack.deploy import ROOT
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

from product import Product
from rows import count, drop, fill, rows_of

DONE, REFUSED, USAGE, UNREACHABLE, NOT_CONFIRMED, INCOMPLETE = range(6)
INTERRUPTED, READER_GONE = 128 + signal.SIGINT, 128 + signal.SIGPIPE
CLOSED = None  # the connection, without an answer


class Client:
    def __init__(self, product: Product, home: Path) -> None:
        self.program = product.stack.binaries["milvault"]
        self.environment = {
            "HOME": str(home),  # without anyone's AWS configuration
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "MILVAULT_URL": product.stack.client_url,
        }

    def variables(self, changes: Mapping[str, str]) -> dict[str, str]:
        """The environment's variables with changes, without the empty ones."""
        return {name: value for name, value in ({**self.environment, **changes}).items() if value}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            env=self.variables(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    @contextmanager
    def started(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """The running client. It is killed after the block, or after two minutes."""
        with subprocess.Popen(
            [self.program, *arguments],
            env=self.variables(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            limit = Timer(120, running.kill)
            limit.start()
            try:
                yield running
            finally:
                limit.cancel()
                running.kill()

    def __call__(self, *arguments: str, code: int = DONE, **environment: str) -> str:
        """The client's output. It must end with this exit code."""
        ran = self.run(*arguments, **environment)
        assert ran.returncode == code, f"{arguments} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran.stdout if code == DONE else ran.stderr


@pytest.fixture
def client(product: Product, tmp_path: Path) -> Client:
    return Client(product, tmp_path)


@dataclass(frozen=True)
class Asked:
    """A request that an `Impostor` received."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    target: str
    at: float = field(default_factory=time.monotonic)


Reply = tuple[int, Any] | tuple[int, Any, Mapping[str, str]] | None


@dataclass
class Impostor:
    """A server in place of the API that fails in ways that are rare in the API. Its clients use a token."""

    environment: Mapping[str, str] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def impostor(reply: Callable[[Asked], Reply]) -> Iterator[Impostor]:
    found = Impostor()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            address = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = dict(urllib.parse.parse_qsl(address.query))
            asked = Asked(self.command, address.path, query, headers, json.loads(body) if body else None, self.path)
            found.asked.append(asked)
            if (answer := reply(asked)) is CLOSED:
                self.close_connection = True
                return
            status, document, *more = answer
            text = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(text)), **(more[0] if more else {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        found.environment = {"MILVAULT_URL": url, "MILVAULT_TOKEN": "of-an-issuer", "AWS_REGION": ""}
        try:
            yield found
        finally:
            server.shutdown()


def in_turn(*replies: Reply) -> Callable[[Asked], Reply]:
    """Gives one reply after the other, and repeats the last."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


NO_FUNCTION = (503, {"message": "Service Unavailable"})
EMPTY = (200, {"items": [], "nextCursor": None})


def words(text: str) -> list[Sequence[str]]:
    return [line.split() for line in text.splitlines()]


def in_a_shell(product: Product, home: Path, commands: str) -> str:
    """The output of commands in a shell that read the stack's settings. All commands must succeed."""
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


def test_the_quick_start_of_the_readme_restores_a_collection(product: Product, tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## Quick start")[1]
    lines = section.split("```")[1].splitlines()
    around = ("make up", ". target/stack.env", "make down")
    assert [line.split("  ")[0] for line in lines if line.startswith(around)] == list(around)
    # As written, except for the stack, which is already up, and the instance, which is the test's own.
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
    restore = json.loads(client("--json", "restore", "list", product.instance))["items"][0]["restoreId"]
    assert restore in client("restore", "list", product.instance)

    # Irreversible commands require confirmation.
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
    # `keepAtLeast` stays too; otherwise the backups that it keeps would expire.
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
    assert REGION in json.loads(client("--json", "usage", *of_it))["completeUntil"]
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


def test_with_a_token_calls_carry_it_instead_of_a_signature_and_no_region_is_needed(client: Client) -> None:
    with impostor(in_turn(EMPTY)) as api:
        client("instance", "list", **api.environment)
        assert [asked.headers["authorization"] for asked in api.asked] == ["Bearer of-an-issuer"]
        register = ("instance", "register", "orders", "--endpoint", "http://127.0.0.1:9", "--bucket", "milvus-data")
        assert "--data-region" in client(*register, code=USAGE, **api.environment)
        without_token = dict(api.environment) | {"MILVAULT_TOKEN": ""}
        assert "region is unknown" in client("instance", "list", code=USAGE, **without_token)


def test_a_session_token_is_sent_and_signed_with_all_else_as_aws_signs_it(client: Client) -> None:
    keys = Credentials(ACCESS_KEY_ID, SECRET_ACCESS_KEY, "of-a-session")
    with impostor(in_turn(EMPTY)) as api:
        signing = {"MILVAULT_TOKEN": "", "AWS_REGION": REGION, "AWS_SESSION_TOKEN": keys.token}
        client("backup", "list", "an instance ñ", "--status", "a b", **{**api.environment, **signing})
    (asked,) = api.asked
    assert asked.headers["x-amz-security-token"] == keys.token
    said, signature = asked.headers["authorization"].split(", Signature=")
    names = said.split("SignedHeaders=")[1].split(";")
    assert "x-amz-security-token" in names
    # The emulator doesn't check signatures, so the test computes the one that AWS would expect.
    signer = SigV4Auth(keys, "execute-api", REGION)
    headers = {name: asked.headers[name] for name in names}
    request = AWSRequest(asked.method, api.environment["MILVAULT_URL"] + asked.target, headers)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    assert signature == expected


def test_a_profiles_program_for_credentials_is_run_once_for_a_whole_wait(
    product: Product, client: Client, tmp_path: Path
) -> None:
    fill("items", 100)
    runs = tmp_path / "runs"
    expiration = (datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = {"AccessKeyId": ACCESS_KEY_ID, "SecretAccessKey": SECRET_ACCESS_KEY, "Expiration": expiration}
    program = tmp_path / "credentials"
    program.write_text(f"#!/bin/sh\necho run >> '{runs}'\necho '{json.dumps({'Version': 1, **keys})}'\n")
    program.chmod(0o700)
    configuration = tmp_path / "config"
    configuration.write_text(f"[profile work]\nregion = {REGION}\ncredential_process = {program}\n")
    by_profile = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_REGION": "",
        "AWS_CONFIG_FILE": str(configuration),
        "AWS_PROFILE": "work",
        "PATH": os.environ["PATH"],
    }
    create = ("backup", "create", product.instance, "by-a-profile", "--collection", f"{product.database}.*")
    assert ["status", "AVAILABLE"] in words(client(*create, **by_profile))
    assert runs.read_text() == "run\n"
    program.write_text("#!/bin/sh\necho 'the safe is shut' >&2\nexit 3\n")
    assert "the safe is shut" in client("instance", "list", code=UNREACHABLE, **by_profile)
    configuration.write_text("[profile work]\nsso_session = x\nsso_account_id = 123456789012\nsso_role_name = R\n"
                             f"[sso-session x]\nsso_region = {REGION}\nsso_start_url = http://127.0.0.1:9/start\n")
    said = client("--region", REGION, "instance", "list", code=UNREACHABLE, **by_profile)
    assert "aws sso login --profile work" in said


def test_a_call_that_no_function_answers_is_made_again_with_the_same_key(client: Client) -> None:
    accepted = (202, {"backupId": "bk-1", "status": "PENDING"})
    with impostor(in_turn(NO_FUNCTION, CLOSED, accepted)) as api:
        client("backup", "create", "orders", "before", "--no-wait", **api.environment)
    assert [asked.method for asked in api.asked] == ["POST"] * 3
    assert len({asked.headers["idempotency-key"] for asked in api.asked}) == 1


def test_a_call_that_is_throttled_is_made_again_when_the_api_says(client: Client) -> None:
    with impostor(in_turn((429, {"message": "Too Many Requests"}, {"retry-after": "1"}), EMPTY)) as api:
        client("instance", "list", **api.environment)
    first, second = api.asked
    assert second.at - first.at >= 0.99


def test_what_a_function_answers_is_not_asked_for_again(client: Client) -> None:
    problem = {"title": "Internal error", "status": 500, "detail": "see the log", "code": "INTERNAL"}
    with impostor(in_turn((500, problem))) as api:
        assert "see the log (INTERNAL)" in client("instance", "list", code=REFUSED, **api.environment)
    assert len(api.asked) == 1


def test_an_api_that_stays_away_is_given_up(client: Client) -> None:
    with impostor(in_turn(NO_FUNCTION)) as api:
        assert "503" in client("instance", "list", code=UNREACHABLE, **api.environment)
    assert 1 < len(api.asked) < 10


def test_a_wait_outlasts_an_api_that_is_away_for_longer_than_a_call_is_made_again(client: Client) -> None:
    running = {"backupId": "bk-1", "status": "RUNNING", "phase": "COPY", "progress": {"percent": 42}}
    available = (200, {"backupId": "bk-1", "status": "AVAILABLE", "databases": [], "nextCursor": None})
    with impostor(in_turn((202, running), (200, running), *[NO_FUNCTION] * 6, available)) as api:
        ran = client.run("backup", "create", "orders", "before", **api.environment)
    assert ran.returncode == DONE and ["status", "AVAILABLE"] in words(ran.stdout), ran.stderr
    assert "COPY 42 %" in ran.stderr and "trying again" in ran.stderr
    polls = api.asked[1:-1]
    assert {asked.query["limit"] for asked in polls} == {"1"} and api.asked[-1].query["limit"] == "1000"


def test_a_backup_that_is_available_and_incomplete_has_an_exit_code_of_its_own(client: Client) -> None:
    left_out = {"collection": "default.broken", "cause": "TROUBLE", "reason": "it can't be described"}
    incomplete = {
        "backupId": "bk-1",
        "status": "AVAILABLE",
        "complete": False,
        "incompleteReasons": ["default.broken: it can't be described"],
        "entityCount": 2000,
        "entityCountIs": "AT_MOST",
        "databases": [],
        "leftOut": [left_out],
        "nextCursor": None,
    }
    accepted = (202, {"backupId": "bk-1", "status": "PENDING", "complete": None})
    with impostor(in_turn(accepted, (200, incomplete))) as api:
        ran = client.run("backup", "create", "orders", "before", **api.environment)
        shown = client("backup", "show", "orders", "bk-1", **api.environment)
        document = json.loads(client("--json", "backup", "show", "orders", "bk-1", **api.environment))
    assert ran.returncode == INCOMPLETE, ran.stderr
    assert "left out: default.broken: it can't be described" in ran.stderr.splitlines()
    assert ran.stderr.splitlines()[-1].endswith("incomplete: default.broken: it can't be described")
    for text in (ran.stdout, shown):
        assert ["complete", "no"] in words(text) and ["rows", "at", "most", "2000"] in words(text)
    assert document == incomplete
    with impostor(in_turn(accepted, (200, incomplete | {"complete": True}))) as api:
        assert ["complete", "yes"] in words(client("backup", "create", "orders", "before", **api.environment))


def test_a_wait_that_is_refused_says_that_the_job_goes_on(client: Client) -> None:
    with impostor(in_turn((202, {"restoreId": "rs-1", "status": "PENDING"}), (403, {"message": "Forbidden"}))) as api:
        said = client("restore", "rollback", "orders", "rs-1", "--yes", code=REFUSED, **api.environment)
    hint = "rollback of restore rs-1 continues; show its progress with: milvault restore show orders rs-1"
    assert said.splitlines()[-1] == hint


def test_who_interrupts_a_wait_is_told_how_to_look_and_the_job_goes_on(product: Product, client: Client) -> None:
    fill("items", 1_000)
    create = ("backup", "create", product.instance, "left", "--collection", f"{product.database}.*")
    with client.started("--json", *create) as running:
        assert running.stderr is not None and running.stdout is not None
        backup = running.stderr.readline().split()[1].rstrip(";")
        running.send_signal(signal.SIGINT)
        said, printed = running.stderr.read(), running.stdout.read()
        assert running.wait() == INTERRUPTED, said
    assert f"milvault backup show {product.instance} {backup}" in said.splitlines()[-1] and printed == ""
    product.ended(f"/backups/{backup}", "AVAILABLE")


def test_every_page_is_shown(client: Client) -> None:
    def page(asked: Asked) -> Reply:
        first = "cursor" not in asked.query
        names = ["a", "b"] if first else ["c"]
        cursor = {"nextCursor": "the-second" if first else None}
        collections = [{"name": name} for name in names]
        if asked.path == "/usage":
            lines = [{"backupId": f"bk-{name}"} for name in names]
            return 200, {"items": lines, "completeUntil": {REGION: "2026-11-24T05:00:00.000Z"}} | cursor
        if "/restores/" in asked.path:
            return 200, {"restoreId": "rs-1", "status": "COMPLETED", "collections": collections} | cursor
        if "/backups/" in asked.path:
            databases = [{"name": "default", "collections": collections}]
            return 200, {"backupId": "bk-1", "status": "AVAILABLE", "databases": databases} | cursor
        return 200, {"items": [{"instanceId": name} for name in names]} | cursor

    with impostor(page) as api:

        def shown(*arguments: str) -> Any:
            return json.loads(client("--json", *arguments, **api.environment))

        listed = shown("instance", "list")
        assert listed == {"items": [{"instanceId": name} for name in "abc"], "nextCursor": None}
        assert [words(client("instance", "list", **api.environment))[row][0] for row in (1, 2, 3)] == ["a", "b", "c"]
        (database,) = shown("backup", "show", "orders", "bk-1")["databases"]
        assert [collection["name"] for collection in database["collections"]] == ["a", "b", "c"]
        assert len(shown("restore", "show", "orders", "rs-1")["collections"]) == 3
        assert "default.c" in client("backup", "show", "orders", "bk-1", **api.environment)
        used = shown("usage")
        assert len(used["items"]) == 3 and used["completeUntil"] == {REGION: "2026-11-24T05:00:00.000Z"}
        ran = client.run("usage", **api.environment)
        assert f"{REGION}: complete until 2026-11-24 05:00:00Z" in ran.stderr and "bk-c" in ran.stdout


def test_names_come_back_as_they_were_given(product: Product, client: Client) -> None:
    fill("items", 100)
    for name in ("2026-11-23T05:39:01.079Z", "移行前 — données ñ", "bk-before"):
        client("backup", "create", product.instance, name, "--collection", f"{product.database}.*")
        assert json.loads(client("--json", "backup", "show", product.instance, name))["name"] == name
        assert name in client("backup", "list", product.instance)
        assert name in client("backup", "delete", product.instance, name, "--yes")
        assert "BACKUP_NOT_FOUND" in client("backup", "show", product.instance, name, code=REFUSED)


def test_of_backups_that_had_a_name_the_living_one_is_meant(product: Product, client: Client) -> None:
    fill("items", 100)
    first = product.backup("nightly")["backupId"]
    client("backup", "delete", product.instance, first, "--yes")
    second = product.backup("nightly")["backupId"]
    assert json.loads(client("--json", "backup", "show", product.instance, "nightly"))["backupId"] == second


def test_a_removal_whose_answer_was_lost_is_done(client: Client) -> None:
    gone = (404, {"code": "INSTANCE_NOT_FOUND", "detail": "no such instance"})
    with impostor(in_turn(CLOSED, gone)) as api:
        assert "orders is removed" in client("instance", "remove", "orders", "--yes", **api.environment)
    with impostor(in_turn(gone)) as api:
        assert "INSTANCE_NOT_FOUND" in client("instance", "remove", "orders", "--yes", code=REFUSED, **api.environment)


def test_a_reader_that_has_seen_enough_ends_the_program_quietly(client: Client) -> None:
    many = [{"instanceId": "orders", "name": "x" * 100} for _ in range(5_000)]
    with impostor(in_turn((200, {"items": many, "nextCursor": None}))) as api:
        for arguments in (("instance", "list"), ("--json", "instance", "list")):
            with client.started(*arguments, **api.environment) as running:
                assert running.stdout is not None and running.stderr is not None
                running.stdout.read(1)
                running.stdout.close()
                assert running.stderr.read() == ""
                assert running.wait() == READER_GONE


def test_in_json_a_refusal_is_the_apis_problem_document(client: Client) -> None:
    refused = client("--json", "backup", "list", "no-such-instance", code=REFUSED)
    assert json.loads(refused)["code"] == "INSTANCE_NOT_FOUND" and len(refused.splitlines()) == 1
    assert "--focus" in client("--json", "usage", "--focus", code=USAGE)
    assert "--focus" in client("usage", "--focus", "--json", code=USAGE)


def test_a_replacement_whose_answer_was_lost_is_not_taken_for_somebody_elses(client: Client) -> None:
    plan = {"enabled": True, "time": "04:30:00", "timezone": "UTC", "retentionDays": 3, "keepAtLeast": 0}
    before, after = (plan | {"time": "03:00:00"}, {"etag": '"a"'}), (plan, {"etag": '"b"'})
    changed_since = (412, {"detail": "read it again", "code": "PRECONDITION_FAILED"})
    on = ("auto", "on", "orders", "--time", "04:30")
    with impostor(in_turn((200, *before), CLOSED, changed_since, (200, *after))) as api:
        assert ["time", "04:30:00"] in words(client(*on, **api.environment))
        assert [asked.headers.get("if-match") for asked in api.asked] == [None, '"a"', '"a"', None]
    # A 412 is an error if the record isn't as requested, or if no answer was lost before it.
    with impostor(in_turn((200, *before), CLOSED, changed_since, (200, *before))) as api:
        assert "PRECONDITION_FAILED" in client(*on, code=REFUSED, **api.environment)
    with impostor(in_turn((200, *before), changed_since)) as api:
        assert "PRECONDITION_FAILED" in client(*on, code=REFUSED, **api.environment)
        assert len(api.asked) == 2


def test_a_registration_says_what_it_drops_and_replaces_only_what_it_has_seen(
    product: Product, client: Client
) -> None:
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:milvault/orders-AbCdEf"
    register = ("--endpoint", product.stack.milvus.uri, "--bucket", product.stack.milvus_bucket)
    client("instance", "register", product.instance, *register, "--secret", secret, "--copy-workers", "4")
    ran = client.run("instance", "register", product.instance, *register)
    assert ran.returncode == DONE
    dropped = [line for line in ran.stderr.splitlines() if line.startswith("warning:")]
    assert len(dropped) == 2 and secret in dropped[0] and "--copy-workers" in dropped[1]
    with impostor(in_turn((404, {"code": "INSTANCE_NOT_FOUND", "detail": "no"}), (201, {"instanceId": "new"}))) as api:
        in_a_region = ("--data-region", REGION)
        client("instance", "register", "new", *register, *in_a_region, **api.environment)
    assert api.asked[1].headers["if-none-match"] == "*"


def test_a_restore_that_keeps_nothing_names_what_it_replaces(product: Product, client: Client) -> None:
    fill("items", 100)
    backup = product.backup("before")
    start = ("restore", "start", product.instance, "before", "--keep-previous-hours", "0")
    refused = client(*start, code=NOT_CONFIRMED)
    assert product.instance in refused and backup["backupId"] in refused and backup["pointInTime"][:10] in refused
    ran = client.run(*start, "--yes", "--no-wait")
    assert ran.returncode == DONE and "until the swap" in ran.stderr and "milvault restore show" in ran.stderr
    product.ended(f"/restores/{words(ran.stdout)[0][1]}", "COMPLETED")


def test_shells_complete_commands(client: Client) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "milvault" in client("completion", shell)
