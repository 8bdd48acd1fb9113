"""Many collections in one restore. Part of `make scale`, because it takes too long for `make test`.

Milvus takes most of the time: a 2.3.5 with one data node finishes one import every two seconds, whatever its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, utility

from product import ENDED, Product

COLLECTIONS = 200
ROWS = 100
SECONDS = 1_800
MEGABYTE = 1 << 20
GROWTH = 16 * MEGABYTE
"""The memory that all collections may take beyond the first few. A ledger page, or all captures, kept for each
collection would take more."""


def make(number: int) -> str:
    """A small collection that isn't loaded."""
    name = f"tenant_{number:03}"
    schema = CollectionSchema(
        [FieldSchema("id", DataType.INT64, is_primary=True), FieldSchema("vector", DataType.FLOAT_VECTOR, dim=4)]
    )
    collection = Collection(name, schema, num_shards=1)
    vectors = numpy.random.default_rng(number).random((ROWS, 4), dtype=numpy.float32)
    collection.insert([list(range(number, number + ROWS)), vectors.tolist()])
    collection.create_index("vector", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    return name


def timed(seen: dict[str, float], holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """`holds`, which also records in `seen` when each phase was first seen."""

    def look(found: Any) -> bool:
        seen.setdefault(found.get("phase") or found["status"], time.monotonic())
        return holds(found)

    return look


def test_two_hundred_collections_come_back_in_one_restore_in_flat_memory(product: Product) -> None:
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(make, range(COLLECTIONS)))
    backup = product.ended(f"/backups/{product.start_backup('all')}", "AVAILABLE", seconds=SECONDS)
    assert backup["collectionCount"] == COLLECTIONS and backup["entityCount"] == COLLECTIONS * ROWS

    began = time.monotonic()
    seen: dict[str, float] = {}
    restore = f"/restores/{product.start_restore(backupName='all', keepPreviousHours=0)}"
    product.until(restore, timed(seen, lambda found: found.get("phase") == "IMPORT"), SECONDS)
    early = product.peak_memory("restore")
    found = product.until(restore, timed(seen, lambda found: found["status"] in ENDED), SECONDS)
    late = product.peak_memory("restore")
    phases = {phase: round(at - began, 1) for phase, at in seen.items()}
    print(f"seconds until {phases}; peak memory {early / MEGABYTE:.1f}, then {late / MEGABYTE:.1f} MB")
    assert found["status"] == "COMPLETED", found
    assert late - early < GROWTH

    restored = {line["name"].partition(".")[2]: (line["state"], line["rowsFound"]) for line in found["collections"]}
    assert restored == {name: ("RESTORED", ROWS) for name in names}
    assert sorted(utility.list_collections()) == names
    for number in range(0, COLLECTIONS, 40):
        collection = Collection(names[number])
        collection.load()
        rows = collection.query("id >= 0", output_fields=["id"], consistency_level="Strong")
        assert sorted(row["id"] for row in rows) == list(range(number, number + ROWS))
    assert product.staged() == []
