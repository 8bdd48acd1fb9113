"""The API's HTTP behaviour: repeated requests, preconditions, `Retry-After`, cursors, names in any script."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import jsonschema
import yaml
from stack.api import Answer
from stack.deploy import ROOT

from product import Product
from rows import count, fill


def refused(answer: Answer, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] == code, answer.json
    return answer.json


def at_once(requests: list[Callable[[], Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(len(requests)) as threads:
        return [answer.result() for answer in [threads.submit(request) for request in requests]]


def test_a_backup_that_is_asked_for_many_times_at_once_with_one_key_is_made_once(product: Product) -> None:
    fill("items", 100)
    body = {"name": "once", "collections": [f"{product.database}.*"]}
    answers = at_once([lambda: product.call("POST", "/backups", body, headers={"Idempotency-Key": "k"})] * 6)
    (backup,) = {answer.expect(202)["backupId"] for answer in answers}
    # Requests are compared by meaning, not by spelling.
    spelled = json.dumps({"collections": body["collections"], "expiresInDays": None, "name": "once"}, indent=2)
    again = product.call("POST", "/backups", spelled, headers={"Idempotency-Key": "k"})
    assert again.expect(202)["backupId"] == backup and again.headers["location"].endswith(backup)
    other = product.call("POST", "/backups", body | {"expiresInDays": 1}, headers={"Idempotency-Key": "k"})
    refused(other, "IDEMPOTENCY_KEY_REUSED")
    product.ended(f"/backups/{backup}", "AVAILABLE")
    assert [found["backupId"] for found in product.call("GET", "/backups").expect(200)["items"]] == [backup]


def test_restores_rollbacks_and_verifications_are_done_once_for_one_key(product: Product) -> None:
    fill("items", 100)
    one, two = product.backup("one"), product.backup("two")
    key = {"Idempotency-Key": "r"}
    answers = at_once([lambda: product.call("POST", "/restores", {"backupName": "one"}, headers=key)] * 6)
    (restore,) = {answer.expect(202)["restoreId"] for answer in answers}
    spelled = {"backupName": "one", "mode": "REPLACE", "keepPreviousHours": 24, "sourceInstanceId": product.instance}
    assert product.call("POST", "/restores", spelled, headers=key).expect(202)["restoreId"] == restore
    refused(product.call("POST", "/restores", {"backupName": "two"}, headers=key), "IDEMPOTENCY_KEY_REUSED")
    product.ended(f"/restores/{restore}", "COMPLETED")

    answers = at_once([lambda: product.call("POST", f"/restores/{restore}/rollback", headers=key)] * 6)
    assert {answer.expect(202)["restoreId"] for answer in answers} == {restore}
    product.ended(f"/restores/{restore}", "ROLLED_BACK")
    again = product.call("POST", f"/restores/{restore}/rollback", headers=key).expect(202)
    assert again["status"] == "ROLLED_BACK" and count("items") == 100

    verify = f"/backups/{one['backupId']}/verify"
    began = product.call("POST", verify, headers=key).expect(200)["verification"]["startedAt"]
    assert product.call("POST", verify, headers=key).expect(200)["verification"]["startedAt"] == began
    assert product.call("POST", verify).expect(200)["verification"]["startedAt"] > began
    refused(product.call("POST", f"/backups/{two['backupId']}/verify", headers=key), "IDEMPOTENCY_KEY_REUSED")


def test_of_many_that_replace_what_they_have_seen_one_does(product: Product) -> None:
    for below, bodies in (
        ("", [product.call("GET").expect(200) | {"name": f"name {number}"} for number in range(6)]),
        ("/auto-backup", [{"enabled": False, "retentionDays": number + 4} for number in range(6)]),
    ):
        bodies = [
            {name: value for name, value in body.items() if name in ("name", "endpoint", "region", "storage")} or body
            for body in bodies
        ]
        seen = product.call("GET", below).headers["etag"]
        assert product.call("GET", below).headers["etag"] == seen
        answers = at_once(
            [lambda body=body: product.call("PUT", below, body, headers={"If-Match": seen}) for body in bodies]
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 5
        (done,) = [answer for answer in answers if answer.status == 200]
        for answer in answers:
            if answer is not done:
                refused(answer, "PRECONDITION_FAILED")
        assert product.call("GET", below).headers["etag"] == done.headers["etag"] != seen
        # Without a condition, every one of many concurrent replacements is made.
        for answer in at_once([lambda body=body: product.call("PUT", below, body) for body in bodies * 3]):
            answer.expect(200)
        refused(product.call("PUT", below, bodies[0], headers={"If-None-Match": "*"}), "PRECONDITION_FAILED")
        product.call("PUT", below, bodies[0], headers={"If-Match": "*"}).expect(200)
        refused(product.call("PUT", below, bodies[0], headers={"If-Match": "unquoted"}), "VALIDATION_FAILED")

    api, new = product.deployment.api, f"{product.path}-2"
    body = {"name": "new", "endpoint": product.stack.milvus.uri, "region": api.region}
    refused(api.put(new, body, headers={"If-Match": "*"}), "PRECONDITION_FAILED")
    made = api.put(new, body, headers={"If-None-Match": "*"})
    made.expect(201)
    assert (made.headers["location"], made.headers["etag"]) == (new, api.get(new).headers["etag"])
    api.delete(new).expect(200)


def test_who_has_to_wait_is_told_for_how_long(product: Product) -> None:
    fill("items", 2_000)
    body = {"name": "one", "collections": [f"{product.database}.*"]}
    accepted = product.call("POST", "/backups", body)
    backup = accepted.expect(202)["backupId"]
    assert int(accepted.headers["retry-after"]) > 0
    in_the_way = product.call("POST", "/backups", body | {"name": "two"})
    refused(in_the_way, "BACKUP_IN_PROGRESS")
    assert int(in_the_way.headers["retry-after"]) > 0
    product.ended(f"/backups/{backup}", "AVAILABLE")
    taken = product.call("POST", "/backups", body)
    refused(taken, "BACKUP_NAME_TAKEN")
    assert "retry-after" not in taken.headers


def test_a_cursor_leads_on_in_its_own_listing_only(product: Product) -> None:
    fill("items", 100)
    for name in ("one", "two", "three"):
        product.backup(name)
    cursor = product.call("GET", "/backups", query={"limit": 1}).expect(200)["nextCursor"]
    assert product.call("GET", "/backups", query={"cursor": cursor}).expect(200)["items"][0]["name"] == "two"
    api = product.deployment.api
    api.put(f"{product.path}-2", {"name": "x", "endpoint": product.stack.milvus.uri, "region": api.region}).expect(201)
    try:
        for path in (f"{product.path}-2/backups", f"{product.path}/restores", "/instances", "/usage"):
            found = refused(api.get(path, query={"cursor": cursor}), "VALIDATION_FAILED")
            assert [error["pointer"] for error in found["errors"]] == ["cursor"]
        changed = cursor[:-2] + ("A" if cursor[-2] != "A" else "B") + cursor[-1]
        refused(product.call("GET", "/backups", query={"cursor": changed}), "VALIDATION_FAILED")
    finally:
        api.delete(f"{product.path}-2").expect(200)


def test_names_are_in_any_script_and_ids_are_not(product: Product) -> None:
    fill("items", 100)
    product.register(name="Bestellungen – 注文 🗄")
    assert product.call("GET").expect(200)["name"] == "Bestellungen – 注文 🗄"
    name = "до миграции / 移行前 ✓"
    backup = product.backup(name)
    assert product.call("GET", f"/backups/{backup['backupId']}").expect(200)["name"] == name
    product.restore(backupName=name)
    refused(product.deployment.api.get(f"/instances/{quote('注文')}"), "VALIDATION_FAILED")


def test_every_example_of_the_contract_is_as_the_contract_says() -> None:
    document = yaml.safe_load((ROOT / "infra/openapi.yaml").read_text())

    def resolved(value: Any) -> Any:
        while "$ref" in value:
            found = document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    checked = 0

    def check(schema: dict[str, Any], example: Any) -> None:
        nonlocal checked
        # References point into the whole document.
        whole = {"components": document["components"], **schema}
        jsonschema.validate(example, whole, cls=jsonschema.Draft202012Validator)
        checked += 1

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        if not isinstance(value, dict):
            return
        if isinstance(value.get("schema"), dict):
            for example in value.get("examples", {}).values():
                check(value["schema"], resolved(example)["value"])
            if "example" in value:
                check(value["schema"], value["example"])
        for item in value.values():
            walk(item)

    walk(document["paths"])
    walk({name: part for name, part in document["components"].items() if name != "examples"})
    assert checked > 60
