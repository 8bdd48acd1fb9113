"""What whoever runs the product sees of it: metrics, and log lines that say what they are about."""

from __future__ import annotations

import json
from typing import Any

from stack.deploy import function_logs
from stack.process import poll

from product import Product
from rows import fill


def lines(product: Product) -> list[dict[str, Any]]:
    """The log's lines that are JSON; the emulator puts some of its own between them."""
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
    """What a line of ours says that it is about."""
    return {key: value for span in line.get("spans", []) for key, value in span.items() if key != "name"}


def metrics(product: Product) -> dict[str, list[dict[str, Any]]]:
    """The embedded metrics of the deployment, and of the instance, by their names."""
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
    assert 0 <= metrics(product)["NewestBackupAge"][-1]["NewestBackupAge"] < 600

    of_it = [found for line in lines(product) if (found := spans(line)).get("backup") == backup["backupId"]]
    assert of_it and all(found["instance"] == product.instance and found["requestId"] for found in of_it)
    assert any(found.get("phase") == "FLUSH" for found in of_it)


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
