"""Restores: the collections that they bring back, those that they don't change, and the effects on users."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy
import pytest
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
from stack.dataset import Dataset, MilvusData, differences
from stack.process import poll

from interceptor import milvus_proxy
from product import ENDED, Product
from rows import count, delete, fill, fill_all, insert, rows_of, rows_of_all


@pytest.fixture
def data(product: Product) -> Iterator[MilvusData]:
    with MilvusData(product.stack.milvus.uri) as data:
        yield data


def by_itself(database: str) -> None:
    """A collection with automatic keys, a time to live, and an index on a scalar."""
    schema = CollectionSchema(
        [
            FieldSchema("number", DataType.INT64, is_primary=True, auto_id=True, description="made by the server"),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
            FieldSchema("label", DataType.VARCHAR, max_length=77),
        ],
        description="keys of the server's own",
    )
    collection = Collection(
        "by_itself", schema, consistency_level="Session", properties={"collection.ttl.seconds": 86_400}, num_shards=1
    )
    vectors = [[number / 7] * 8 for number in range(500)]
    collection.insert([vectors, [f"label {number}" for number in range(500)]])
    collection.create_index("vector", {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 8, "efConstruction": 64}})
    collection.create_index("label", {"index_type": "Trie"}, index_name="by_label")
    collection.load()


@pytest.mark.parametrize("left", [1, 0], ids=["some", "none"])
def test_rows_that_an_import_leaves_out_are_missed(product: Product, left: int) -> None:
    """The collection's rows were never counted, and some are deleted, so no number says how many must be restored."""
    collection = fill("partial", 300)
    collection.flush()
    insert(collection, range(300, 600), numpy.random.default_rng(2))
    delete(collection, list(range(0, 600, 2)))
    collection.release()
    product.backup("before")
    collection.load()
    delete(collection, list(range(100)))
    live = rows_of("partial")

    def leave_out() -> None:
        staged = [key for key in product.staged() if "/insert_log/" in key]
        folders = sorted({key.rsplit("/", 2)[0] for key in staged})
        assert len(folders) == 2, staged
        client, bucket = product.stack.emulator.client("s3"), product.stack.milvus_bucket
        for key in staged:
            if key.rsplit("/", 2)[0] not in folders[:left]:
                client.delete_object(Bucket=bucket, Key=key)

    with milvus_proxy(product.stack.milvus.uri) as proxy:
        product.register(endpoint=proxy.uri)
        moment = proxy.before.once(lambda called, _: called == "Import", leave_out)
        failed = product.ended(f"/restores/{product.start_restore(backupName='before')}", "FAILED")
        moment.verify()
    assert failed["failure"]["code"] == "VERIFICATION_FAILED"
    assert rows_of("partial") == live and utility.list_collections() == ["partial"]


def test_collections_of_every_kind_come_back_as_they_were(product: Product, data: MilvusData) -> None:
    here, beside = product.database, f"{product.database}_b"
    datasets = [
        Dataset("plain", 5_000, here, partitions=("one", "two"), alias="known_as"),
        Dataset("by_text", 3_000, here, key=DataType.VARCHAR, dynamic=False),
        Dataset("by_tenant", 3_000, here, partition_key=True, loaded=False),
        Dataset("binary", 1_000, here, vector=DataType.BINARY_VECTOR, dimension=64, deleted_every=0,
                index={"index_type": "BIN_FLAT", "metric_type": "JACCARD", "params": {}}),
        Dataset("empty", 0, here),
        Dataset("plain", 1_000, beside, alias="known_as"),
    ]  # fmt: skip
    for dataset in datasets:
        data.create(dataset)
    by_itself(here)
    Collection("bare", CollectionSchema([FieldSchema("id", DataType.INT64, is_primary=True),
                                         FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8)]))  # fmt: skip
    places = [(dataset.database, dataset.name) for dataset in datasets] + [(here, "by_itself")]
    before, bare = data.capture(places), data.definition("bare", here)
    backup = product.backup("every-kind", collections=[f"{here}.*", f"{beside}.*"])
    assert backup["collectionCount"] == len(places) + 1

    data.delete(datasets[0], range(2_000, 4_000))
    data.drop("by_text", here)
    data.drop("by_itself", here)
    utility.drop_collection("bare")
    utility.alter_alias("empty", "known_as")
    data.drop("plain", beside)
    data.create(Dataset("since", 500, here))
    since = data.capture([(here, "since")])

    restore = product.restore(backupName="every-kind")
    assert differences(before, data.capture(places)) == []
    assert data.definition("bare", here) == bare
    assert differences(since, data.capture([(here, "since")])) == []
    [alone] = [warning for warning in restore["warnings"] if "left unchanged" in warning]
    assert alone == f"not in the backup and left unchanged: {here}.since"
    assert product.staged() == []

    found = {c["name"]: (c["state"], c["rowsFound"]) for c in restore["collections"]}
    expected = {f"{database}.{name}": ("RESTORED", len(before[database, name].rows)) for database, name in places}
    assert found == expected | {f"{here}.bare": ("RESTORED", 0)}


def test_a_part_comes_back_and_the_rest_stays(product: Product, data: MilvusData) -> None:
    here = product.database
    fill_all(("one", "two", "three"), 1_000)
    then = data.capture([(here, name) for name in ("one", "two", "three")])
    product.backup("before")
    for name in ("one", "two", "three"):
        delete(Collection(name), list(range(500)))
    now = data.capture([(here, name) for name in ("one", "two", "three")])

    product.restore(backupName="before", collections=[f"{here}.one"], rename={f"{here}.one": f"{here}.uno"})
    expected = now | {(here, "uno"): then[here, "one"]}
    assert differences(expected, data.capture([(here, name) for name in ("one", "two", "three", "uno")])) == []

    product.restore(backupName="before", collections=[f"{here}.two", f"{here}.three"])
    expected |= {(here, "two"): then[here, "two"], (here, "three"): then[here, "three"]}
    assert differences(expected, data.capture([(here, name) for name in ("one", "two", "three", "uno")])) == []


def test_a_backup_comes_back_in_another_instance(product: Product, data: MilvusData) -> None:
    here = product.database
    data.create(Dataset("moved", 3_000, here, partitions=("one", "two"), alias="known_as"))
    before = data.capture([(here, "moved")])
    product.backup("to-move")

    other = product.stack.start_milvus("other-data", "elsewhere/root")
    try:
        other.wait_healthy()
        second = replace(product, instance=f"{product.instance}-second")
        storage = {"bucket": "other-data", "rootPath": "elsewhere/root"}
        second.register(endpoint=other.uri, storage=storage)
        second.restore(sourceInstanceId=product.instance, backupName="to-move")
        with MilvusData(other.uri) as there:
            assert differences(before, there.capture([(here, "moved")])) == []
            # A backup of the restored collection is as good as the first.
            second.backup("moved")
            there.drop("moved", here)
            second.restore(backupName="moved")
            assert differences(before, there.capture([(here, "moved")])) == []
        assert differences(before, data.capture([(here, "moved")])) == []
    finally:
        product.stack.milvus_servers.remove(other)
        other.kill()


def test_a_restore_is_finished_or_undone_wherever_its_worker_dies(product: Product) -> None:
    names = fill_all((f"part_{number}" for number in range(12)), 500, deleted=20)
    saved = rows_of_all(names)
    product.backup("good")
    for name in names:
        delete(Collection(name), list(range(1, 200, 2)))

    restore = product.start_restore(backupName="good")
    seen = []
    for phase in ("STAGE", "BUILD", "IMPORT", "VERIFY", "SWAP", "CLEAN"):
        state = {}

        def is_there() -> bool:
            state.update({"phase": None} | product.call("GET", f"/restores/{restore}").expect(200))
            if state["status"] != "PENDING" and state["phase"] != phase and state["status"] not in ENDED:
                product.sweep()  # as the rule does, because a killed worker's lease lasts for a while
            return state["phase"] == phase or state["status"] in ENDED

        assert poll(is_there, 200, every=0.01), state
        if state["status"] in ENDED:
            break
        seen.append(phase)
        product.kill("restore")
    assert seen == ["STAGE", "BUILD", "IMPORT", "VERIFY", "SWAP", "CLEAN"]

    def is_over() -> bool:
        product.sweep()
        return product.call("GET", f"/restores/{restore}").expect(200)["status"] in ENDED

    assert poll(is_over, 120, every=0.5)
    product.ended(f"/restores/{restore}", "COMPLETED")
    assert rows_of_all(names) == saved
    assert product.staged() == []
    kept = [name for name in utility.list_collections() if name not in names]
    assert len(kept) == len(names) and all("__before_" in name for name in kept)


def test_what_does_not_verify_is_not_swapped_in(product: Product) -> None:
    names = fill_all((f"part_{number}" for number in range(4)), 2_000, deleted=100)
    product.backup("good")
    delete(Collection("part_0"), list(range(1_000, 1_500)))
    live = rows_of_all(names)

    restore = product.start_restore(backupName="good")
    s3 = product.stack.emulator.client("s3")

    def lose_deletes() -> bool:
        """Removes the staged deletes, so that the restore brings back rows that the backup deletes."""
        for key in product.staged():
            if "/delta_log/" in key:
                s3.delete_object(Bucket=product.stack.milvus_bucket, Key=key)
        return product.call("GET", f"/restores/{restore}").expect(200)["status"] in ENDED

    assert poll(lose_deletes, 120, every=0.01)
    failed = product.ended(f"/restores/{restore}", "FAILED")
    assert failed["failure"]["code"] == "VERIFICATION_FAILED"
    assert "the backup has 1900 rows" in failed["failure"]["message"] and "2000 are found" in failed["failure"]["message"]
    assert rows_of_all(names) == live
    assert sorted(utility.list_collections()) == names
    assert product.staged() == []


def test_queries_fail_for_milliseconds_and_never_see_a_mix(product: Product) -> None:
    names = fill_all((f"part_{number}" for number in range(5)), 1_000)
    product.backup("before")
    for name in names:
        delete(Collection(name), list(range(400)))
    assert count("part_2") == 600

    connections.connect("observer", uri=product.stack.milvus.uri, db_name=product.database)
    observed = Collection("part_2", using="observer")
    answers: list[tuple[float, float, int | None]] = []
    over = threading.Event()

    def observe() -> None:
        while not over.is_set():
            began = time.monotonic()
            try:
                found = observed.query("", output_fields=["count(*)"], consistency_level="Eventually", timeout=5)
                seen = int(found[0]["count(*)"])
            except Exception:  # whatever pymilvus raises: no answer
                seen = None
            answers.append((began, time.monotonic(), seen))

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        restore = product.restore(backupName="before")
    finally:
        over.set()
        observer.join()
        connections.disconnect("observer")

    counts = [seen for _, _, seen in answers if seen is not None]
    assert set(counts) == {600, 1_000} and counts == sorted(counts), sorted(set(counts))
    # The gap begins at the first failed query at the earliest, because the answer before it was good.
    failures = [place for place, (_, _, seen) in enumerate(answers) if seen is None]
    noticed = 0.0
    if failures:
        assert failures == list(range(failures[0], failures[-1] + 1)), "there is more than one gap"
        noticed = answers[failures[-1]][1] - answers[failures[0]][0]
    reported = {c["name"]: c["unavailableMs"] for c in restore["collections"]}
    print(f"unavailable: {reported} ms; noticed for part_2: {noticed * 1000:.0f} ms, {len(failures)} failed queries")
    assert statistics.median(reported.values()) < 50
    assert noticed * 1000 < reported[f"{product.database}.part_2"] + 50


def test_a_rollback_is_refused_when_there_is_nothing_to_go_back_to(product: Product) -> None:
    fill("items", 500)
    product.backup("before")
    delete(Collection("items"), list(range(100)))
    changed = rows_of("items")

    restore = product.restore(backupName="before", keepPreviousHours=0)
    refused = product.call("POST", f"/restores/{restore['restoreId']}/rollback").expect(409)
    assert refused["code"] == "BACKUP_NOT_AVAILABLE" and "no longer kept" in refused["detail"]

    delete(Collection("items"), list(range(100)))
    assert rows_of("items") == changed
    restore = product.restore(backupName="before")
    [previous] = [name for name in utility.list_collections() if "__before_" in name]
    utility.drop_collection(previous)
    product.call("POST", f"/restores/{restore['restoreId']}/rollback").expect(202)
    found = product.ended(f"/restores/{restore['restoreId']}", "COMPLETED")
    assert any("was dropped or renamed" in warning for warning in found["warnings"])
    assert count("items") == 500
