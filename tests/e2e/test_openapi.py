"""The deployed API tested with thousands of valid and invalid requests, generated from its OpenAPI document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from stack.api import Api
from stack.deploy import deploy

from product import PRICES, Product
from rows import fill

DOCUMENT = Path(__file__).parents[2] / "infra" / "openapi.yaml"
CASES = 60  # per operation and kind: more than 2,000 in all
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Signed(requests.auth.AuthBase):
    """Signs a request before it is sent."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["host"] = self.api.host
        signed = {name: value for name, value in request.headers.items() if name.lower() in ("host", "content-type")}
        aws = AWSRequest(request.method, request.url, signed, request.body)
        SigV4Auth(Credentials(self.api.access_key_id, self.api.secret_access_key), "execute-api", self.api.region).add_auth(aws)
        request.headers.update(dict(aws.headers.items()))
        return request


@pytest.fixture
def contract(product: Product) -> Iterator[Product]:
    """A separate deployment, so that the generated objects don't disturb other tests."""
    deployment = deploy(
        product.stack.emulator, product.stack.binaries, name="milvault-contract", parameters={"Prices": json.dumps(PRICES)}
    )
    product = replace(product, deployment=deployment)
    product.register()
    yield product
    # So that none of its schedules stays active.
    product.call("PUT", "/auto-backup", {"enabled": False}).expect(200)


class Known:
    """Replaces generated ids by those of existing objects, and generated endpoints by this machine's."""

    def __init__(self, product: Product, backup: str, restore: str) -> None:
        self.product, self.backup, self.restore = product, backup, restore
        self.made: list[str] = []
        self.turn = 0

    def into(self, case: Any, mode: GenerationMode) -> None:
        self.turn += 1
        operation, path = case.operation.definition.raw["operationId"], case.path_parameters or {}
        if self.turn % 4 and operation not in ("putInstance", "deleteInstance") and "instanceId" in path:
            path["instanceId"] = self.product.instance
            if operation == "deleteBackup":
                path["backupId"] = self.made.pop() if self.made else path["backupId"]
            elif "backupId" in path:
                path["backupId"] = self.backup
            elif "restoreId" in path:
                path["restoreId"] = self.restore
        body = case.body
        if isinstance(body, dict) and operation == "putInstance":
            for field in ("endpoint", "managementEndpoint"):
                if isinstance(body.get(field), str):
                    body[field] = elsewhere_is_here(body[field], self.product)
        # The schema can't express that one of two fields is required, nor which names exist.
        if isinstance(body, dict) and operation == "createRestore" and mode is GenerationMode.POSITIVE:
            for field in ("backupName", "sourceInstanceId", "collections", "rename", "mode"):
                body.pop(field, None)
            body["backupId"] = self.backup
        # The default period, the present month, takes up to 744 queries.
        if self.turn % 4 and operation == "getUsage" and mode is GenerationMode.POSITIVE and not {"from", "to"} & (case.query or {}).keys():
            case.query = (case.query or {}) | {"from": f"{datetime.now(timezone.utc):%Y-%m-%dT00:00:00Z}"}


def elsewhere_is_here(endpoint: str, product: Product) -> str:
    """The local Milvus's endpoint in place of an endpoint that has a host."""
    scheme, separator, _ = endpoint.partition("://")
    return product.stack.milvus.uri if separator and scheme in ("http", "https") else endpoint


def group_of(path: str) -> str:
    """The group of a path. Groups run side by side; backups and restores are one group, as they block each other."""
    resource = "".join(path.split("/")[3:4])  # after "/instances/{instanceId}/"
    return "jobs" if resource in ("backups", "restores") else resource


def made_up(operation: Any, mode: GenerationMode) -> list[Any]:
    """Generated requests of an operation, the same in every run."""
    cases: list[Any] = []

    @seed(4711)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def make_up(case: Any) -> None:
        cases.append(case)

    make_up()
    return cases


def test_no_answer_is_outside_the_contract(contract: Product) -> None:
    product, api = contract, contract.deployment.api
    fill("items", 500)
    product.backup("kept")
    restored = product.restore(backupName="kept")
    # Every request is signed, so the generator doesn't vary the authorisation.
    schema = schemathesis.openapi.from_dict({**yaml.safe_load(DOCUMENT.read_text()), "security": []})
    groups: dict[str, list[tuple[Any, GenerationMode]]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            groups.setdefault(group_of(operation.path), []).extend((case, mode) for case in made_up(operation, mode))
    answers: Counter[tuple[str, int]] = Counter()
    failures: list[str] = []

    def try_out(cases: list[tuple[Any, GenerationMode]]) -> None:
        """Tests the operations in the order of the document, so that created objects exist when they are deleted."""
        known, session = Known(product, restored["backupId"], restored["restoreId"]), requests.Session()
        for case, mode in cases:
            known.into(case, mode)
            name = case.operation.definition.raw["operationId"]
            response = case.call(base_url=api.url, session=session, auth=Signed(api), timeout=60)
            answers[name, response.status_code] += 1
            if name == "createBackup" and response.status_code == 202:
                known.made.append(response.json()["backupId"])
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as group:  # collected, so that every failure is reported
                failures.extend(f"{name}: {failure}\n{group.message}" for failure in group.exceptions)

    # Threads only wait for the emulator: the generator itself isn't thread-safe.
    with ThreadPoolExecutor(len(groups)) as pool:
        list(pool.map(try_out, groups.values()))

    for (name, status), count in sorted(answers.items()):
        print(f"{name:16} {status}  {count}")
    assert not failures, "\n\n".join(failures)
    assert answers.total() >= 2_000
    # Valid requests succeed and invalid ones don't. Whether a restore can still be cancelled depends on timing.
    names = {name for name, _ in answers}
    assert {name for name, status in answers if status < 300} | {"cancelRestore"} == names
    assert {name for name, status in answers if status == 400} == names
