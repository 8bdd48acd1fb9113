"""A restore with `onError: CONTINUE` in which one collection can't be restored."""

from __future__ import annotations

from pymilvus import Collection, utility

from product import Product
from rows import delete, fill, rows_of
from snapshots import collections


def test_what_cannot_be_restored_costs_only_itself(product: Product) -> None:
    for name in ["broken", "whole"]:
        fill(name, 500)
    utility.create_alias("broken", "production")
    backup = product.backup("before")
    then = rows_of("whole")
    for name in ["broken", "whole"]:
        delete(Collection(name), list(range(100)))
    live = rows_of("broken")
    broken = f"{product.database}.broken"
    [source] = [page["id"] for page in collections(product, backup["backupId"]) if page["name"] == broken]
    missing = next(key for key in product.stored() if f"/{source}/" in key)
    product.stack.emulator.client("s3").delete_object(Bucket=product.deployment.snapshot_bucket, Key=missing)

    failed = product.ended(f"/restores/{product.start_restore(backupName='before')}", "FAILED")
    assert failed["failure"]["code"] == "SNAPSHOT_DAMAGED" and failed["complete"] is None
    assert rows_of("broken") == live

    restore = product.restore(backupName="before", onError="CONTINUE")
    assert restore["complete"] is False
    [reason] = restore["incompleteReasons"]
    assert reason.startswith(f"{broken}: ") and "is missing or changed" in reason
    told = {c["name"].split(".")[1]: c for c in restore["collections"]}
    assert (told["broken"]["state"], told["whole"]["state"]) == ("FAILED", "RESTORED")
    assert told["broken"]["failure"]["code"] == "SNAPSHOT_DAMAGED" and told["whole"]["failure"] is None
    assert rows_of("whole") == then and rows_of("broken") == live and rows_of("production") == live

    product.call("POST", f"/restores/{restore['restoreId']}/rollback").expect(202)
    product.ended(f"/restores/{restore['restoreId']}", "ROLLED_BACK")
    assert len(rows_of("whole")) == 400 and rows_of("broken") == live
