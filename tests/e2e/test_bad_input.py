"""Wrong input is refused with the right code and without side effects, and the corrected request succeeds."""

from __future__ import annotations

from typing import Any

import pytest
from stack.process import free_ports

from product import Product
from rows import fill

UNKNOWN_BACKUP = "bk-01ARZ3NDEKTSV4RRFFQ69G5FAV"
UNKNOWN_RESTORE = "rs-01ARZ3NDEKTSV4RRFFQ69G5FAV"


def problem(answer: Any, status: int, code: str) -> Any:
    body = answer.expect(status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] and body["title"] and body["detail"]
    return body


def test_an_unsigned_request_is_refused(product: Product) -> None:
    assert product.call("GET", sign=False).status == 403


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/instances/nobody", "INSTANCE_NOT_FOUND"),
        ("POST", "/instances/nobody/preflight", "INSTANCE_NOT_FOUND"),
        ("GET", "/instances/nobody/backups", "INSTANCE_NOT_FOUND"),
        ("GET", "/instances/nobody/restores", "INSTANCE_NOT_FOUND"),
        ("DELETE", "/instances/nobody", "INSTANCE_NOT_FOUND"),
    ],
)
def test_an_unknown_instance(product: Product, method: str, path: str, code: str) -> None:
    problem(product.stack.api.call(method, path), 404, code)


def test_unknown_backups_and_restores(product: Product) -> None:
    for name in (UNKNOWN_BACKUP, "bk-nonsense", "a%20b", "%F0%9F%92%BE"):
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/verify")):
            problem(product.call(method, f"/backups/{name}{below}"), 404, "BACKUP_NOT_FOUND")
    for name in (UNKNOWN_RESTORE, "x"):
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/rollback")):
            problem(product.call(method, f"/restores/{name}{below}"), 404, "RESTORE_NOT_FOUND")
    problem(product.call("POST", "/restores", {"backupId": UNKNOWN_BACKUP}), 404, "BACKUP_NOT_FOUND")
    problem(product.call("POST", "/restores", {"backupName": "nope"}), 404, "BACKUP_NOT_FOUND")


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/instance"), ("PATCH", "/instances/orders")])
def test_what_is_no_route(product: Product, method: str, path: str) -> None:
    assert f"{method} {path}" in problem(product.stack.api.call(method, path), 404, "ROUTE_NOT_FOUND")["detail"]
    assert product.stack.api.call(method, path, sign=False).status == 403


# Only 127.0.0.0/8 is allowed here; addresses that serve a machine's credentials are never allowed.
@pytest.mark.parametrize("host", ["10.0.3.17", "0.0.0.0", "169.254.169.254", "2852039166", "[fe80::1]", "[::ffff:169.254.170.2]"])
def test_a_server_that_is_not_allowed(product: Product, host: str) -> None:
    body = {"name": "x", "endpoint": f"http://{host}:80", "managementEndpoint": f"http://{host}:81", "region": "eu-west-1"}
    refused = problem(product.stack.api.call("PUT", "/instances/elsewhere", body), 400, "VALIDATION_FAILED")
    assert [error["pointer"] for error in refused["errors"]] == ["/endpoint", "/managementEndpoint"]
    problem(product.stack.api.call("GET", "/instances/elsewhere"), 404, "INSTANCE_NOT_FOUND")


@pytest.mark.parametrize("instance", ["a%20b", "%2e%2e", "a%23b", "-x", "x" * 64, "%E7%A7%BB"])
def test_instance_ids_with_odd_characters(product: Product, instance: str) -> None:
    body = problem(product.stack.api.call("GET", f"/instances/{instance}"), 400, "VALIDATION_FAILED")
    assert [error["pointer"] for error in body["errors"]] == ["instanceId"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("{", None),
        ("[]", None),
        ("null", None),
        ({}, "/name"),
        ({"name": 7}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 129}, "/name"),
        ({"name": "ok", "nmae": 1}, None),
        ({"name": "ok", "collections": ["nodot"]}, "/collections/0"),
        ({"name": "ok", "expiresInDays": 0}, "/expiresInDays"),
        ({"name": "ok", "expiresInDays": -1}, "/expiresInDays"),
    ],
)
def test_bodies_that_are_not_right(product: Product, body: Any, pointer: str | None) -> None:
    found = problem(product.call("POST", "/backups", body), 400, "VALIDATION_FAILED")
    if pointer:
        assert pointer in [error["pointer"] for error in found["errors"]]
    assert product.call("GET", "/backups").expect(200)["items"] == []


def test_a_body_over_a_megabyte(product: Product) -> None:
    body = {"name": "ok", "collections": ["default.x" + "y" * 200] * 6_000}
    problem(product.call("POST", "/backups", body), 400, "VALIDATION_FAILED")


def test_query_parameters_that_are_not_right(product: Product) -> None:
    for query in ({"limit": "0"}, {"limit": "x"}, {"status": "NICE"}, {"cursor": "?"}, {"from": "monday"}, {"x": "1"}):
        body = problem(product.call("GET", "/backups", query=query), 400, "VALIDATION_FAILED")
        assert [error["pointer"] for error in body["errors"]] == list(query)


def test_a_milvus_that_does_not_answer(product: Product) -> None:
    fill("items", 100)
    [port] = free_ports(1)
    product.register(endpoint=f"http://127.0.0.1:{port}")
    problem(product.call("POST", "/backups", {"name": "now"}), 502, "MILVUS_UNREACHABLE")
    assert product.call("GET", "/backups").expect(200)["items"] == []
    preflight = product.call("POST", "/preflight").expect(200)
    assert not preflight["ok"]
    assert {c["name"]: c["status"] for c in preflight["checks"]}["reachable"] == "FAILED"

    product.register()
    assert product.call("POST", "/preflight").expect(200)["ok"]
    product.backup("now")


def test_a_wrong_bucket(product: Product) -> None:
    fill("items", 100)
    product.register(storage={"bucket": "no-such-bucket-here", "rootPath": "files"})
    problem(product.call("POST", "/backups", {"name": "now"}), 502, "STORAGE_UNREACHABLE")
    assert product.call("GET", "/backups").expect(200)["items"] == []
    product.register()
    product.backup("now")


def test_a_name_that_is_taken(product: Product) -> None:
    fill("items", 100)
    backup = product.backup("once")
    problem(product.call("POST", "/backups", {"name": "once"}), 409, "BACKUP_NAME_TAKEN")
    product.call("DELETE", f"/backups/{backup['backupId']}").expect(200)
    product.backup("once")


def test_the_same_request_again_gives_the_same_answer(product: Product) -> None:
    fill("items", 100)
    body = {"name": "keyed", "collections": [f"{product.database}.*"]}
    key = {"Idempotency-Key": "k-1"}
    first = product.call("POST", "/backups", body, headers=key).expect(202)
    again = product.call("POST", "/backups", body, headers=key).expect(202)
    assert again["backupId"] == first["backupId"]
    other = product.call("POST", "/backups", body | {"name": "other"}, headers=key)
    problem(other, 409, "IDEMPOTENCY_KEY_REUSED")
    product.ended(f"/backups/{first['backupId']}", "AVAILABLE")


def test_an_instance_with_backups_is_not_removed(product: Product) -> None:
    fill("items", 100)
    backup = product.backup("one")
    problem(product.call("DELETE"), 409, "INSTANCE_HAS_BACKUPS")
    product.call("DELETE", f"/backups/{backup['backupId']}").expect(200)
    product.call("DELETE").expect(200, 204)
    problem(product.call("GET"), 404, "INSTANCE_NOT_FOUND")


def test_restores_that_make_no_sense(product: Product) -> None:
    fill("items", 100)
    product.backup("one")
    items, other = f"{product.database}.items", f"{product.database}.other"
    for body, pointer in (
        ({}, None),
        ({"backupName": "one", "backupId": UNKNOWN_BACKUP}, None),
        ({"backupName": "one", "collections": [other]}, "/collections/0"),
        ({"backupName": "one", "rename": {other: items}}, f"/rename/{other}"),
        ({"backupName": "one", "mode": "MAYBE"}, "/mode"),
        ({"backupName": "one", "keepPreviousHours": -1}, "/keepPreviousHours"),
    ):
        found = problem(product.call("POST", "/restores", body), 400, "VALIDATION_FAILED")
        if pointer:
            assert [error["pointer"] for error in found["errors"]] == [pointer]
    assert product.call("GET", "/restores").expect(200)["items"] == []


def test_a_listing_goes_on_where_it_stopped(product: Product) -> None:
    fill("items", 100)
    made = [product.backup(f"b{number}")["name"] for number in range(5)]
    names: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = product.call("GET", "/backups", query=query).expect(200)
        names += [backup["name"] for backup in page["items"]]
        cursor = page["nextCursor"]
        if not cursor:
            break
    assert names == made[::-1]
    forged = product.call("GET", "/backups", query={"limit": 2, "status": "AVAILABLE"}).expect(200)["nextCursor"]
    problem(product.call("GET", "/backups", query={"cursor": forged}), 400, "VALIDATION_FAILED")
