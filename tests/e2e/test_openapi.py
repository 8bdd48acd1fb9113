"""The deployed API against its OpenAPI document: thousands of requests, right ones and wrong ones, made up from it."""

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
CASES = 60  # of each operation and kind; all together more than 2,000
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Signed(requests.auth.AuthBase):
    """Signs what is about to be sent."""

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
    """A deployment of its own, because what is made up here is of no use to other tests."""
    deployment = deploy(
        product.stack.emulator, product.stack.binaries, name="milvault-contract", parameters={"Prices": json.dumps(PRICES)}
    )
    product = replace(product, deployment=deployment)
    product.register()
    yield product
    # So that no schedule of its goes on.
    product.call("PUT", "/auto-backup", {"enabled": False}).expect(200)


class Known:
    """Puts what is really there into requests that would ask for what isn't, and keeps them within this machine."""

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
        # One of two fields, and what they name, is more than a schema says.
        if isinstance(body, dict) and operation == "createRestore" and mode is GenerationMode.POSITIVE:
            for field in ("backupName", "sourceInstanceId", "collections", "rename", "mode"):
                body.pop(field, None)
            body["backupId"] = self.backup
        # The present month, if nothing else is said, is up to 744 queries.
        if self.turn % 4 and operation == "getUsage" and mode is GenerationMode.POSITIVE and not {"from", "to"} & (case.query or {}).keys():
            case.query = (case.query or {}) | {"from": f"{datetime.now(timezone.utc):%Y-%m-%dT00:00:00Z}"}


def elsewhere_is_here(endpoint: str, product: Product) -> str:
    """An endpoint of any form, as far as it has a host at all, is the local Milvus."""
    scheme, separator, _ = endpoint.partition("://")
    return product.stack.milvus.uri if separator and scheme in ("http", "https") else endpoint


def group_of(path: str) -> str:
    """What can be tried beside other groups: an instance's backups and restores would be in each other's way."""
    resource = "".join(path.split("/")[3:4])  # after "/instances/{instanceId}/"
    return "jobs" if resource in ("backups", "restores") else resource


def made_up(operation: Any, mode: GenerationMode) -> list[Any]:
    """Requests of an operation, always the same."""
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
    # Every request is signed, so that it isn't among what is varied.
    schema = schemathesis.openapi.from_dict({**yaml.safe_load(DOCUMENT.read_text()), "security": []})
    groups: dict[str, list[tuple[Any, GenerationMode]]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            groups.setdefault(group_of(operation.path), []).extend((case, mode) for case in made_up(operation, mode))
    answers: Counter[tuple[str, int]] = Counter()
    failures: list[str] = []

    def try_out(cases: list[tuple[Any, GenerationMode]]) -> None:
        """In the order of the document: what is made is there to be deleted."""
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
            except FailureGroup as group:  # the others are worth knowing, too
                failures.extend(f"{name}: {failure}\n{group.message}" for failure in group.exceptions)

    # What they wait for is the emulator; what makes them up isn't made for threads.
    with ThreadPoolExecutor(len(groups)) as pool:
        list(pool.map(try_out, groups.values()))

    for (name, status), count in sorted(answers.items()):
        print(f"{name:16} {status}  {count}")
    assert not failures, "\n\n".join(failures)
    assert answers.total() >= 2_000
    # The right ones get through, and the wrong ones don't. Which restore still runs, to be cancelled, is a matter of time.
    names = {name for name, _ in answers}
    assert {name for name, status in answers if status < 300} | {"cancelRestore"} == names
    assert {name for name, status in answers if status == 400} == names
