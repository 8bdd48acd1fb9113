"""Metrics, and log lines with the ids that they are about."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stack.deploy import function_logs
from stack.process import poll

from product import Product
from rows import fill
from test_sweep import expire


def lines(product: Product) -> list[dict[str, Any]]:
    """The JSON lines of the log. The emulator writes other lines between them."""
    logs = function_logs(product.stack.emulator.client("logs"), product.deployment.log_group)
    found = []
    for line in logs.splitlines():
        start = line.find("{")
        if start >= 0 and line.rstrip().endswith("}"):
            try:
                found.append(json.loads(line[start:]))
            except ValueError:
                continue
    return found


def spans(line: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line's spans."""
    return {key: value for span in line.get("spans", []) for key, value in span.items() if key != "name"}


def metrics(product: Product) -> dict[str, list[dict[str, Any]]]:
    """The embedded metrics of the deployment and of the instance, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines(product):
        for metric in line.get("_aws", {}).get("CloudWatchMetrics", []):
            assert metric["Namespace"] == f"Milvault/{product.deployment.name}"
            if line.get("InstanceId", product.instance) == product.instance:
                for definition in metric["Metrics"]:
                    found.setdefault(definition["Name"], []).append(line)
    return found


def test_a_backup_is_seen_in_metrics_and_every_line_about_it_says_so(product: Product) -> None:
    fill("items", 1_000)
    backup = product.backup("seen")
    product.sweep()
    product.invoke("usage", {"action": "meter"})
    wanted = {"BackupsCompleted", "BackupDuration", "BackupAdded", "BackupObjectRate", "NewestBackupAge"}
    wanted |= {"BackupsOverdue", "JobsStalled", "SweepErrors", "SweepLag", "SweepsUnfinished", "UsageLag"}
    assert poll(lambda: wanted <= metrics(product).keys(), 30), metrics(product).keys()
    [completed] = metrics(product)["BackupsCompleted"]
    assert completed["InstanceId"] == product.instance and completed["BackupAdded"] == backup["addedBytes"]
    assert completed["backup"] == backup["backupId"] and completed["requestId"]
    assert 0 <= metrics(product)["NewestBackupAge"][-1]["NewestBackupAge"] < 600

    of_it = [found for line in lines(product) if (found := spans(line)).get("backup") == backup["backupId"]]
    assert of_it and all(found["instance"] == product.instance and found["requestId"] for found in of_it)
    assert any(found.get("phase") == "FLUSH" for found in of_it)
    # Every line with the backup's id has it in a field, also the lines about the end of a slice.
    about_it = [line for line in lines(product) if backup["backupId"] in json.dumps(line)]
    assert all(backup["backupId"] in (spans(line).get("backup"), line.get("backup")) for line in about_it), about_it
    ends = [spans(line) | line for line in about_it if line.get("message") == "the slice is over"]
    assert [(line["end"], line["phase"]) for line in ends] == [("ENDED", "PUBLISH")]


def test_all_lines_of_a_jobs_invocations_say_which_job_they_are_of(product: Product) -> None:
    fill("items", 500)
    backup = product.backup("seen")
    restore = product.start_restore(backupName="seen")
    product.ended(f"/restores/{restore}", "COMPLETED")
    for kind, job in (("backup", backup["backupId"]), ("restore", restore)):

        def over(kind: str = kind, job: str = job) -> list[dict[str, Any]]:
            """The log lines about the ends of the job's slices."""
            ends = [line for line in lines(product) if line.get("message") == "the slice is over"]
            return [line for line in ends if spans(line).get(kind) == job]

        assert poll(over, 30)
        worked = {spans(line)["requestId"] for line in over()}
        seen = [line for line in lines(product) if "level" in line and spans(line).get("requestId") in worked]
        assert len(seen) > 3
        for line in seen:
            of = spans(line)
            assert (of.get("instance"), of.get(kind)) == (product.instance, job), line
        told = [line for line in lines(product) if "_aws" in line and line.get("requestId") in worked]
        assert told and all((line["InstanceId"], line[kind]) == (product.instance, job) for line in told)


def test_a_backup_that_adds_nothing_is_a_fresh_one_all_the_same(product: Product) -> None:
    fill("items", 500)
    first = product.backup("first")
    second = product.backup("second")
    assert first["addedBytes"] > 0 and second["addedBytes"] == 0
    told = len(metrics(product).get("NewestBackupAge", []))
    product.invoke("usage", {"action": "meter"})

    def ages() -> list[dict[str, Any]]:
        return metrics(product).get("NewestBackupAge", [])[told:]

    assert poll(ages, 30)
    newest = ages()[-1]
    at = datetime.fromtimestamp(newest["_aws"]["Timestamp"] / 1000, timezone.utc)
    made = datetime.fromisoformat(second["createdAt"].replace("Z", "+00:00"))
    assert abs((at - made).total_seconds() - newest["NewestBackupAge"]) < 0.1


def test_what_the_sweep_logs_of_a_backup_has_its_ids_in_fields(product: Product) -> None:
    fill("items", 200)
    backup = product.backup("goes", expiresInDays=1)
    expire(product, backup["backupId"])
    product.sweep()

    def swept() -> list[dict[str, Any]]:
        of_it = [line for line in lines(product) if backup["backupId"] in json.dumps(line)]
        return [line for line in of_it if any(span["name"] == "sweep" for span in line.get("spans", []))]

    assert poll(lambda: [line for line in swept() if line["message"] == "swept"], 30)
    for line in swept():
        of = spans(line)
        assert (of["instance"], of["backup"]) == (product.instance, backup["backupId"]) and of["requestId"], line


def test_tokens_of_an_issuer_are_not_accepted_whoever_they_are_for(product: Product) -> None:
    with pytest.raises(ClientError, match="JwtAudience"):
        product.stack.add_deployment("milvault-tokens", {"JwtIssuer": "https://issuer.example.com"})


def test_which_servers_may_be_connected_to_has_to_be_said(product: Product) -> None:
    with pytest.raises(ClientError, match="AllowedEndpoints"):
        product.stack.add_deployment("milvault-open", {"AllowedEndpoints": ""})


def test_a_restore_is_seen_in_metrics(product: Product) -> None:
    fill("items", 500)
    product.backup("seen")
    product.restore(backupName="seen")
    wanted = {"RestoresCompleted", "RestoreDuration"}
    assert poll(lambda: wanted <= metrics(product).keys(), 30), metrics(product).keys()
    [completed] = metrics(product)["RestoreDuration"]
    assert 0 < completed["RestoreDuration"] < 600


def test_a_refusal_is_logged_with_what_it_was_about(product: Product) -> None:
    product.call("GET", "/backups/bk-nonsense").expect(404)

    def refusals() -> list[dict[str, Any]]:
        refused = [spans(line) for line in lines(product) if line.get("message") == "refused"]
        return [found for found in refused if found.get("instance") == product.instance]

    assert poll(refusals, 30)
    assert all(found["requestId"] and found["backup"] == "bk-nonsense" for found in refusals())
