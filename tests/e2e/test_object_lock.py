"""Snapshots in a bucket with Object Lock: no object of a backup can be destroyed before the backup may be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from stack.deploy import deploy

from product import Product
from rows import fill

DAYS = 30


@pytest.fixture
def locking(product: Product) -> Iterator[Product]:
    """A separate deployment whose bucket locks objects."""
    emulator = product.stack.emulator
    deployment = deploy(emulator, product.stack.binaries, name="milvault-locking", parameters={"ObjectLockDays": DAYS})
    # The emulator's CloudFormation sets up the bucket's versioning, but not its Object Lock.
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": DAYS}}
    emulator.client("s3").put_object_lock_configuration(
        Bucket=deployment.snapshot_bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    product = replace(product, deployment=deployment)
    product.register()
    yield product


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def test_nothing_of_a_backup_can_be_destroyed_before_it_may_go(locking: Product) -> None:
    product, bucket = locking, locking.deployment.snapshot_bucket
    s3 = product.stack.emulator.client("s3")
    fill("items", 1_000)
    short = product.backup("short", expiresInDays=3)
    kept = product.backup("long", expiresInDays=90)
    assert kept["addedBytes"] == 0, "all objects are taken over"

    def stored() -> list[str]:
        return [found["Key"] for found in s3.list_objects_v2(Bucket=bucket, Prefix=f"{product.instance}/")["Contents"]]

    of_it = [key for key in stored() if f"/snapshots/{kept['backupId']}/" in key or "/objects/" in key.split("/snapshots/")[0]]
    assert any("/snapshots/" in key for key in of_it) and any("/snapshots/" not in key for key in of_it)
    for key in of_it:
        retention = s3.get_object_retention(Bucket=bucket, Key=key)["Retention"]
        assert retention["Mode"] == "GOVERNANCE" and retention["RetainUntilDate"] >= time(kept["expiresAt"]), key

    # The answer to a deletion says until when the backup stays, and the backup can still be restored.
    there = set(stored())
    for backup in (short, kept):
        deleted = product.call("DELETE", f"/backups/{backup['backupId']}").expect(202)
        locked_until = deleted["lockedUntil"]
        assert time(locked_until) > time(backup["createdAt"]) + timedelta(days=DAYS)
        assert (deleted["status"], deleted["expiresAt"]) == ("AVAILABLE", locked_until)
        assert "Object Lock" in deleted["warning"]
    assert product.sweep()["errors"] == [] and set(stored()) == there
    product.restore(backupId=kept["backupId"], mode="CREATE", rename={f"{product.database}.items": f"{product.database}.back"})

    # After the locks end, the backups are deleted. Only the sweep's clock is ahead, so the emulator's locks still hold,
    # and no locked object may be destroyed.
    sweep = product.deployment.functions["retention-sweep"]
    product.stack.set_clock_ahead(sweep, timedelta(days=91))
    product.sweep()
    for backup in (short, kept):
        product.until(f"/backups/{backup['backupId']}", lambda found: found["status"] == "DELETED")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{product.instance}/")
    assert listed["KeyCount"] == 0
    versions = s3.list_object_versions(Bucket=bucket, Prefix=f"{product.instance}/")["Versions"]
    assert set(of_it) <= {version["Key"] for version in versions}
    one = next(version for version in versions if version["Key"] in of_it)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
