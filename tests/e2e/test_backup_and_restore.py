"""The main promise: a restore brings back every row of a backup."""

from __future__ import annotations

import numpy
from pymilvus import Collection, utility

from product import Product
from rows import DIMENSIONS, count, delete, drop, fill, insert, rows_of


def test_two_large_collections_come_back_row_by_row(product: Product) -> None:
    fill("articles", 60_000, seed=1, deleted=3_000)
    fill("images", 50_000, seed=2, deleted=1_000)
    utility.create_alias("articles", "reading")
    before = {name: rows_of(name) for name in ("articles", "images")}
    assert [len(rows) for rows in before.values()] == [57_000, 49_000]

    backup = product.backup("everything")
    assert (backup["entityCount"], backup["entityCountIs"]) == (106_000, "EXACT")
    assert backup["collectionCount"] == 2
    assert backup["complete"] is True and "incompleteReasons" not in backup
    assert backup["capturedAs"] == {"user": None, "seesEverything": True}
    assert backup["sizeBytes"] == backup["addedBytes"] == sum(product.stored().values())
    [database] = [d for d in backup["databases"] if d["collections"]]
    assert database["name"] == product.database
    counts = {c["name"]: (c["entityCount"], c["partitions"]) for c in database["collections"]}
    assert counts == {"articles": (57_000, 2), "images": (49_000, 2)}

    drop("images")
    delete(Collection("articles"), list(range(1, 60_000, 2)))
    insert(Collection("articles"), range(60_000, 60_500), numpy.random.default_rng(3))
    assert count("articles") < 30_000

    restore = product.restore(backupName="everything")
    assert {c["rowsFound"] for c in restore["collections"]} == {57_000, 49_000}
    # There was nothing to rename under the dropped collection's name.
    unavailable = {c["name"].split(".")[1]: c["unavailableMs"] for c in restore["collections"]}
    assert unavailable["images"] is None and unavailable["articles"] < 1_000
    for name, rows in before.items():
        assert rows_of(name) == rows
    assert rows_of("reading") == before["articles"]
    assert product.staged() == []


def test_a_backup_taken_while_rows_are_written_is_consistent(product: Product) -> None:
    import threading

    collection = fill("busy", 20_000, deleted=500)
    stop = threading.Event()
    written = [20_000]

    def write() -> None:
        random = numpy.random.default_rng(5)
        while not stop.is_set():
            insert(collection, range(written[0], written[0] + 100), random)
            written[0] += 100

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup = product.backup("while-busy")
    finally:
        stop.set()
        writer.join()
    product.restore(backupId=backup["backupId"], rename={f"{product.database}.busy": f"{product.database}.then"})
    then = rows_of("then", below=written[0])
    # The rows are a prefix of the written ones: each batch is whole or absent, and only the last ones are absent.
    newest = max(then)
    assert 20_000 <= newest < written[0]
    assert (newest + 1) % 100 == 0
    assert set(then) == set(range(newest + 1)) - set(range(0, 5_000, 10))
    assert len(then) <= backup["entityCount"] <= len(then) + 500  # deletes may not be subtracted during writes


def test_the_second_backup_stores_only_what_is_new_and_each_can_be_deleted(product: Product) -> None:
    fill("items", 20_000)
    first = product.backup("first")
    insert(Collection("items"), range(20_000, 20_100), numpy.random.default_rng(9))
    delete(Collection("items"), [1, 2, 3])
    second = product.backup("second")
    assert 0 < second["addedBytes"] < first["sizeBytes"] / 5
    assert second["sizeBytes"] > first["sizeBytes"]
    third = product.backup("third")
    assert third["addedBytes"] == 0
    now = rows_of("items")

    deleted = product.call("DELETE", f"/backups/{first['backupId']}").expect(200)
    assert deleted["status"] == "DELETED"
    product.call("DELETE", f"/backups/{third['backupId']}").expect(200)
    assert sum(product.stored().values()) == second["sizeBytes"]
    listed = product.call("GET", "/backups").expect(200)["items"]
    assert [b["name"] for b in listed] == ["second"]
    with_deleted = product.call("GET", "/backups", query={"includeDeleted": "true"}).expect(200)["items"]
    assert [(b["name"], b["status"]) for b in with_deleted] == [
        ("third", "DELETED"),
        ("second", "AVAILABLE"),
        ("first", "DELETED"),
    ]

    drop("items")
    product.restore(backupId=second["backupId"])
    assert rows_of("items") == now
    product.call("DELETE", f"/backups/{second['backupId']}").expect(200)
    assert product.stored("") == {}


def test_a_restore_under_another_name_leaves_the_live_collection_alone(product: Product) -> None:
    fill("items", 3_000)
    utility.create_alias("items", "goods")
    before = rows_of("items")
    product.backup("before")
    delete(Collection("items"), list(range(1_000)))
    changed = rows_of("items")

    original, copy = f"{product.database}.items", f"{product.database}.copy"
    product.restore(backupName="before", rename={original: copy}, mode="CREATE")
    assert rows_of("copy") == before
    assert rows_of("items") == changed
    assert rows_of("goods") == changed

    refused = product.call("POST", "/restores", {"backupName": "before", "mode": "CREATE"})
    assert refused.expect(409)["code"] == "COLLECTION_EXISTS"


def test_a_restore_can_be_rolled_back(product: Product) -> None:
    fill("items", 3_000)
    product.backup("before")
    delete(Collection("items"), list(range(1_000)))
    changed = rows_of("items")
    utility.create_alias("items", "since")

    restore = product.restore(backupName="before")
    assert count("items") == count("since") == 3_000
    rolled_back = product.call("POST", f"/restores/{restore['restoreId']}/rollback").expect(202)
    assert rolled_back["status"] == "RUNNING"
    product.ended(f"/restores/{restore['restoreId']}", "ROLLED_BACK")
    assert rows_of("items") == rows_of("since") == changed
    assert utility.list_collections() == ["items"]


def test_what_is_not_to_be_reloaded_is_named(product: Product) -> None:
    fill("loaded", 1_000)
    fill("unloaded", 1_000).release()
    product.backup("both")
    restore = product.restore(backupName="both")
    required = {c["name"]: c["loadRequired"] for c in restore["collections"]}
    assert required == {f"{product.database}.loaded": False, f"{product.database}.unloaded": True}
    assert str(utility.load_state("loaded")) == "Loaded"
    assert str(utility.load_state("unloaded")) == "NotLoad"
    Collection("unloaded").load()
    assert count("unloaded") == 1_000

    restore = product.restore(backupName="both", reload="NONE", keepPreviousHours=0)
    assert all(c["loadRequired"] for c in restore["collections"])
    assert str(utility.load_state("loaded")) == "NotLoad"


def test_an_entity_count_says_whether_it_is_exact_or_an_upper_bound(product: Product) -> None:
    fill("loaded", 1_000, deleted=20)
    fill("unloaded", 1_000, deleted=20).release()
    backup = product.backup("counted")
    [database] = [d for d in backup["databases"] if d["collections"]]
    counts = {c["name"]: (c["entityCountIs"], c["entityCount"]) for c in database["collections"]}
    kind, bound = counts["unloaded"]
    assert counts["loaded"] == ("EXACT", 980) and kind == "AT_MOST" and 980 <= bound <= 1_000
    assert (backup["entityCountIs"], backup["entityCount"]) == ("AT_MOST", 980 + bound)

    restore = product.restore(backupName="counted")
    expected = {c["source"].split(".")[1]: (c["rowsExpectedIs"], c["rowsExpected"]) for c in restore["collections"]}
    assert expected == counts
    assert [c["rowsFound"] for c in restore["collections"]] == [980, 980]


def test_of_rows_with_one_primary_key_each_comes_back(product: Product) -> None:
    insert(fill("twice", 500, seed=1), range(500), numpy.random.default_rng(2))
    copies = [numpy.random.default_rng(seed).random((500, DIMENSIONS), dtype=numpy.float32) for seed in (1, 2)]

    def all_are_there() -> bool:
        """Whether each copy is found by a search for its vector. Which of two copies a query returns isn't defined."""
        nearest = {"metric_type": "L2", "params": {"nprobe": 16}}
        for vectors in copies:
            hits = Collection("twice").search(vectors.tolist(), "vector", nearest, limit=1, consistency_level="Strong")
            if any(hit[0].id != key or hit[0].distance > 1e-9 for key, hit in enumerate(hits)):
                return False
        return count("twice") == 1_000

    assert all_are_there()
    product.backup("duplicates")
    drop("twice")
    restore = product.restore(backupName="duplicates")
    assert [c["rowsFound"] for c in restore["collections"]] == [1_000]
    assert all_are_there()


def test_a_damaged_backup_is_found_and_refused_and_heals(product: Product) -> None:
    fill("items", 2_000)
    backup = product.backup("precious")
    verify = f"/backups/{backup['backupId']}/verify"
    assert product.call("POST", verify).expect(200)["status"] == "AVAILABLE"

    s3, bucket = product.stack.emulator.client("s3"), product.stack.deployment.snapshot_bucket
    victim = next(iter(product.stored()))
    body = s3.get_object(Bucket=bucket, Key=victim)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=victim)
    found = product.call("POST", verify).expect(200)
    assert found["status"] == "DAMAGED"
    assert found["verification"]["missing"] == [victim]
    refused = product.call("POST", "/restores", {"backupName": "precious"})
    assert refused.expect(409)["code"] == "BACKUP_NOT_AVAILABLE"

    before = rows_of("items")
    told = {"backupName": "precious", "allowDamaged": True}
    failed = product.ended(f"/restores/{product.start_restore(**told)}", "FAILED")
    assert failed["failure"]["code"] == "SNAPSHOT_DAMAGED" and victim.split("/", 3)[3] in failed["failure"]["message"]
    assert rows_of("items") == before and product.staged() == []

    # A damaged backup isn't used for the next backup, which stores the missing objects again.
    again = product.backup("again")
    assert again["addedBytes"] >= len(body) and victim in product.stored()
    assert product.call("POST", verify).expect(200)["status"] == "AVAILABLE"

    manifest = next(key for key in product.stored("snapshots/") if key.endswith(f"{backup['backupId']}/manifest.json"))
    s3.delete_object(Bucket=bucket, Key=manifest)
    described = product.call("GET", f"/backups/{backup['backupId']}").expect(200)
    assert described["sizeBytes"] == backup["sizeBytes"] and described["databases"] == []
    assert manifest in product.call("POST", verify).expect(200)["verification"]["missing"]
