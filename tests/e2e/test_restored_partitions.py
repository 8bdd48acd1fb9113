"""Collections of many partitions, named by their users or made by a partition key."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema
from stack.dataset import MilvusData, differences

from product import ENDED, Product
from snapshots import collections

PARTITIONS = [f"part_{number:02}" for number in range(64)]
EACH = 20
KEYED, TENANTS, BY_KEY = 3_000, 100, 16
SECONDS = 400
"""2.3.5 needs two seconds for each partition with rows."""
INDEX = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 16}}


def schema(*, keyed: bool) -> CollectionSchema:
    return CollectionSchema(
        [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
            FieldSchema("tenant", DataType.VARCHAR, max_length=64, is_partition_key=keyed),
            FieldSchema("details", DataType.JSON),
        ],
        description="in partitions",
        enable_dynamic_field=True,
    )


def rows(numbers: range, tenants: int) -> list[dict[str, Any]]:
    vectors = numpy.random.default_rng(numbers.start).random((len(numbers), 8), dtype=numpy.float32).tolist()
    return [
        {"id": number, "vector": vector, "tenant": f"größe {number % tenants}", "details": {"n": [number]}, "of": number / 7}
        for number, vector in zip(numbers, vectors, strict=True)
    ]


def by_name() -> Collection:
    """A collection with rows in each of 64 partitions, and none in another one and the default partition."""
    collection = Collection("by_name", schema(keyed=False), num_shards=1)
    collection.create_partition("empty")
    for place, partition in enumerate(PARTITIONS):
        collection.create_partition(partition)
        collection.insert(rows(range(place * EACH, (place + 1) * EACH), 7), partition_name=partition)
    return collection


def by_key() -> Collection:
    """A collection with rows of many tenants, in each of 16 partitions on both shards."""
    collection = Collection("by_key", schema(keyed=True), num_shards=2, num_partitions=BY_KEY)
    collection.insert(rows(range(KEYED), TENANTS))
    return collection


def delete(collection: Collection, ids: range) -> None:
    collection.delete(f"id in {list(ids)}")


def test_many_partitions_come_back_row_by_row_and_their_imports_are_seen_to_end(product: Product) -> None:
    here, jobs = product.database, len(PARTITIONS) + BY_KEY
    named, keyed = by_name(), by_key()
    for collection in (named, keyed):
        collection.flush()  # so that the deletes are in separate files
        collection.create_index("vector", INDEX)
        collection.load(_async=True)
    delete(named, range(0, len(PARTITIONS) * EACH, 90))
    delete(keyed, range(0, KEYED, 7))
    with MilvusData(product.stack.milvus.uri) as data:
        then = data.capture([(here, "by_name"), (here, "by_key")])
        assert then[here, "by_key"].definition["partitions"] == BY_KEY
        backup = product.backup("parts")
        captured = {one["name"]: Counter(segment["partitionId"] for segment in one["segments"])
                    for one in collections(product, backup["backupId"])}  # fmt: skip
        assert sorted(captured[f"{here}.by_name"].values()) == [1] * len(PARTITIONS)
        assert sorted(captured[f"{here}.by_key"].values()) == [2] * BY_KEY, "one segment per shard"
        delete(named, range(EACH * 10))
        delete(keyed, range(1_000))

        seen: list[Any] = []

        def is_over(found: Any) -> bool:
            seen.extend(filter(None, [(found.get("progress") or {}).get("imports")]))
            return found["status"] in ENDED

        restore = product.until(f"/restores/{product.start_restore(backupName='parts')}", is_over, SECONDS)
        assert restore["status"] == "COMPLETED" and restore["warnings"] == [], restore
        assert differences(then, data.capture(then)) == []
    total = {"jobsTotal": jobs, "rowsTotal": backup["entityCount"]}
    assert all(total.items() <= imports.items() for imports in seen), seen[:3]
    for done, of in (("jobsDone", "jobsTotal"), ("rowsDone", "rowsTotal")):
        steps = [imports[done] for imports in seen]
        assert steps == sorted(steps) and len(set(steps)) > jobs // 4 and steps[-1] <= total[of], steps
