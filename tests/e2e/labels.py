"""Small collections in which each row is labelled with its collection, so that the rows of two can't be mistaken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, utility

Labels = dict[int, str]
"""A collection's rows: the label by primary key."""
INDEX = {"index_type": "FLAT", "metric_type": "L2", "params": {}}
SCHEMA = CollectionSchema(
    [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
        FieldSchema("label", DataType.VARCHAR, max_length=64),
    ]
)


def create(name: str, schema: CollectionSchema = SCHEMA, **options: Any) -> Collection:
    """An empty collection with an index, not loaded."""
    collection = Collection(name, schema, **options)
    collection.create_index("vector", INDEX)
    return collection


def labelled(mark: str, ids: Iterable[int]) -> Labels:
    """Rows with labels of this mark."""
    return {key: f"{mark}-{key}" for key in ids}


def columns(rows: Labels) -> list[Sequence[object]]:
    """The columns for an insert or upsert of these rows."""
    return [list(rows), [[key % 97 / 97] * 8 for key in rows], list(rows.values())]


def create_with(name: str, rows: Labels) -> Labels:
    """Creates a collection with these rows, not flushed, and returns the rows."""
    create(name).insert(columns(rows))
    return rows


def labels_of(names: Iterable[str]) -> dict[str, Labels]:
    """Every row of each collection, by a strongly consistent query. Collections that aren't loaded are loaded first."""
    collections = [Collection(name) for name in names]
    for collection in collections:
        collection.load(_async=True)
    found = {}
    for collection in collections:
        utility.wait_for_loading_complete(collection.name, timeout=120)
        rows = collection.query("id >= 0", output_fields=["id", "label"], consistency_level="Strong")
        found[collection.name] = {row["id"]: row["label"] for row in rows}
        assert len(rows) == len(found[collection.name]), f"{collection.name} has a key twice"
    return found
