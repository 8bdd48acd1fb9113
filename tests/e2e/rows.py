"""Collections to back up, and every row of them as pymilvus sees it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, utility

DIMENSIONS = 8
BATCH = 10_000
PAGE = 10_000
AT_ONCE = 16


def fill(name: str, rows: int, *, seed: int = 1, deleted: int = 0) -> Collection:
    """A loaded collection with two partitions, an index, and every tenth row deleted up to `deleted` of them."""
    random = numpy.random.default_rng(seed)
    schema = CollectionSchema(
        [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIMENSIONS),
            FieldSchema("label", DataType.VARCHAR, max_length=64),
            FieldSchema("weight", DataType.DOUBLE),
        ],
        description="for the end-to-end tests",
    )
    collection = Collection(name, schema)
    collection.create_partition("second")
    insert(collection, range(rows), random)
    collection.create_index("vector", {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 16}})
    collection.load()
    if deleted:
        delete(collection, list(range(0, rows, 10))[:deleted])
    return collection


def fill_all(names: Iterable[str], rows: int, *, deleted: int = 0) -> list[str]:
    """Fills several collections at once, because Milvus needs seconds to load each, and returns their names."""
    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda seed, name: fill(name, rows, seed=seed, deleted=deleted), range(len(names)), names))
    return names


def insert(collection: Collection, ids: range, random: numpy.random.Generator) -> None:
    for start in range(ids.start, ids.stop, BATCH):
        batch = list(range(start, min(start + BATCH, ids.stop)))
        vectors = random.random((len(batch), DIMENSIONS), dtype=numpy.float32)
        columns = [batch, vectors.tolist(), [f"label-{i}" for i in batch], [i / 7 for i in batch]]
        collection.insert(columns, partition_name="second" if (start // BATCH) % 2 else "_default")


def delete(collection: Collection, ids: list[int]) -> None:
    for start in range(0, len(ids), 5_000):
        collection.delete(f"id in {ids[start:start + 5_000]}")


def rows_of(name: str, below: int = 200_000) -> dict[int, dict[str, Any]]:
    """Every row by primary key, as strongly consistent queries see it. All keys are in `0..below`."""
    collection = Collection(name)
    total = count(name)
    found: dict[int, dict[str, Any]] = {}
    for start in range(0, below, PAGE):
        if len(found) == total:
            break  # the other pages are empty
        expression = f"id >= {start} and id < {start + PAGE}"
        page = collection.query(expression, output_fields=["*"], consistency_level="Strong")
        found |= {row["id"]: row for row in page}
    assert len(found) == total  # no row twice, none outside
    return found


def rows_of_all(names: Iterable[str]) -> dict[str, dict[int, dict[str, Any]]]:
    """Every row of several collections, by their names."""
    names = list(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(rows_of, names), strict=True))


def count(name: str) -> int:
    found = Collection(name).query("", output_fields=["count(*)"], consistency_level="Strong")
    return int(found[0]["count(*)"])


def drop(name: str) -> None:
    utility.drop_collection(name)
