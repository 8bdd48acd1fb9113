"""The sweep: expiry, retention and verification without a caller."""

from __future__ import annotations

from product import Product
from rows import fill, fill_all


def expire(product: Product, backup: str) -> None:
    """Moves a backup's expiry into the past, because a caller can't set less than a day."""
    change(product, backup, "#r.expiresAt = :past, dueAt = :past", "#r")


def change(product: Product, backup: str, change: str, *names: str) -> None:
    """Changes a backup's record directly in the catalog."""
    product.stack.emulator.client("dynamodb").update_item(
        TableName=product.deployment.catalog_table,
        Key={"PK": {"S": f"INSTANCE#{product.instance}"}, "SK": {"S": f"BACKUP#{backup}"}},
        UpdateExpression=f"SET {change} ADD version :one",
        ExpressionAttributeValues={":past": {"S": "2020-01-01T00:00:00.000Z"}, ":one": {"N": "1"}},
        **({"ExpressionAttributeNames": {name: "record" for name in names}} if names else {}),
    )


def test_the_sweep_deletes_what_has_expired_and_nothing_else(product: Product) -> None:
    fill("items", 1_000)
    keep = product.backup("keep")
    stay = product.backup("stay", expiresInDays=1)
    gone = product.backup("gone", expiresInDays=1)
    assert keep["expiresAt"] is None and stay["expiresAt"] > stay["createdAt"]
    expire(product, gone["backupId"])

    dry = product.sweep(dryRun=True)
    mine = [swept for swept in dry["expired"] if swept["instanceId"] == product.instance]
    reason = "it expired at 2020-01-01T00:00:00+00:00"
    assert mine == [
        {"instanceId": product.instance, "backupId": gone["backupId"], "outcome": "Delete", "reason": reason}
    ]
    assert product.call("GET", f"/backups/{gone['backupId']}").expect(200)["status"] == "AVAILABLE"

    product.sweep()
    assert product.call("GET", f"/backups/{gone['backupId']}").expect(200)["status"] == "DELETED"
    for backup in (keep, stay):
        assert product.call("GET", f"/backups/{backup['backupId']}").expect(200)["status"] == "AVAILABLE"
        verified = product.call("POST", f"/backups/{backup['backupId']}/verify").expect(200)
        assert verified["status"] == "AVAILABLE"


def test_a_backup_that_is_deleted_while_another_runs_is_finished_later(product: Product) -> None:
    fill_all((f"part_{number}" for number in range(4)), 2_000)
    old = product.backup("old")
    running = product.start_backup("running")
    deleted = product.call("DELETE", f"/backups/{old['backupId']}").expect(200, 202)
    product.ended(f"/backups/{running}", "AVAILABLE")
    if deleted["status"] != "DELETED":
        product.sweep()
    assert product.call("GET", f"/backups/{old['backupId']}").expect(200)["status"] == "DELETED"
    verified = product.call("POST", f"/backups/{running}/verify").expect(200)
    assert verified["status"] == "AVAILABLE"


def test_what_has_not_been_verified_for_a_week_is_without_anyone_asking(product: Product) -> None:
    fill("items", 1_000)
    backup = product.backup("precious")["backupId"]
    assert product.call("GET", f"/backups/{backup}").expect(200)["verification"] is None
    victim = next(iter(product.stored()))
    product.stack.emulator.client("s3").delete_object(Bucket=product.deployment.snapshot_bucket, Key=victim)
    change(product, backup, "dueAt = :past")

    expected = {"instanceId": product.instance, "backupId": backup, "outcome": "Verify"}
    assert expected in product.sweep(dryRun=True)["verifications"]
    assert product.call("GET", f"/backups/{backup}").expect(200)["verification"] is None
    assert expected in product.sweep()["verifications"]
    found = product.until(f"/backups/{backup}", lambda found: found["status"] == "DAMAGED")
    assert found["verification"]["status"] == "COMPLETED" and found["verification"]["missing"] == [victim]
    assert expected not in product.sweep()["verifications"]
