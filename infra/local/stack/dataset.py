"""Real data in a Milvus, and all of its rows read back, to compare the data before a backup and after a restore.

A `Dataset` is created from a seed, so two runs hold the same data. `capture` reads whole collections (every field,
vectors and dynamic fields included, partition by partition) and their definitions; `differences` lists the
differences of two captures; after a restore, there are none.
"""

from __future__ import annotations

import itertools
import json
import uuid
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, db, utility
from pymilvus.client.types import LoadState

DEFAULT = "default"
BATCH = 2000
Row = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """One collection to create, with a key, a vector, scalars, JSON, and a dynamic field unless `dynamic` is false."""

    name: str
    rows: int
    database: str = DEFAULT
    key: DataType = DataType.INT64
    vector: DataType = DataType.FLOAT_VECTOR
    dimension: int = 32
    dynamic: bool = True
    partitions: Sequence[str] = ()
    partition_key: bool = False
    index: Mapping[str, Any] = field(
        default_factory=lambda: {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 64}}
    )
    alias: str | None = None
    loaded: bool = True
    properties: Mapping[str, Any] = field(default_factory=dict)
    deleted_every: int = 20
    """Every n-th row is deleted; 0 keeps all rows."""

    @property
    def kept(self) -> int:
        """The number of rows after the deletes."""
        return self.rows - (len(range(0, self.rows, self.deleted_every)) if self.deleted_every else 0)

    def key_of(self, number: int) -> int | str:
        """The primary key of the n-th row. String keys have unusual characters."""
        return number * 3 - 7 if self.key is DataType.INT64 else f"key-{number:07}/ü'%"


@dataclass(frozen=True)
class Contents:
    """A collection as its users see it: its definition, and its rows by primary key."""

    definition: Mapping[str, Any]
    rows: Mapping[int | str, Row]


class MilvusData:
    """A Milvus server's databases, collections and rows.

    A context manager, which closes the connections: otherwise gRPC waits forever for an interrupted call when the
    interpreter exits.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._connections: dict[str, str] = {}

    def create(self, dataset: Dataset) -> None:
        """Creates the collection with its rows, deletes, index, alias and load state, and flushes it."""
        collection = Collection(
            dataset.name,
            _schema(dataset),
            using=self._connection(dataset.database),
            consistency_level="Bounded",
            properties=dict(dataset.properties),
            num_shards=2,
            **({"num_partitions": 8} if dataset.partition_key else {}),
        )
        for partition in dataset.partitions:
            collection.create_partition(partition)
        self.insert(dataset, range(dataset.rows))
        if dataset.deleted_every:
            self.delete(dataset, range(0, dataset.rows, dataset.deleted_every))
        collection.flush()
        collection.create_index("vector", dict(dataset.index), index_name="by_vector")
        if dataset.alias:
            utility.create_alias(dataset.name, dataset.alias, using=self._connection(dataset.database))
        if dataset.loaded:
            collection.load()

    def insert(self, dataset: Dataset, numbers: range) -> None:
        """Inserts rows of a dataset by their numbers, spread over its partitions."""
        collection = self.collection(dataset.name, dataset.database)
        targets: list[str | None] = [*dataset.partitions] or [None]
        for start in range(numbers.start, numbers.stop, BATCH):
            batch = _rows(dataset, range(start, min(start + BATCH, numbers.stop)))
            collection.insert(batch, partition_name=targets[(start // BATCH) % len(targets)])

    def delete(self, dataset: Dataset, numbers: Iterable[int]) -> None:
        """Deletes rows of a dataset by their numbers."""
        collection = self.collection(dataset.name, dataset.database)
        keys = [dataset.key_of(number) for number in numbers]
        for start in range(0, len(keys), BATCH):
            collection.delete(f"id in {json.dumps(keys[start : start + BATCH], ensure_ascii=False)}")

    def drop(self, name: str, database: str = DEFAULT) -> None:
        utility.drop_collection(name, using=self._connection(database))

    def collection(self, name: str, database: str = DEFAULT) -> Collection:
        """A collection's pymilvus object."""
        return Collection(name, using=self._connection(database))

    def databases(self) -> list[str]:
        names: list[str] = db.list_database(using=self._connection(DEFAULT))
        return sorted(names)

    def collections(self, database: str = DEFAULT) -> list[str]:
        names: list[str] = utility.list_collections(using=self._connection(database))
        return sorted(names)

    def count(self, name: str, database: str = DEFAULT) -> int:
        """The number of rows after deletes."""
        answer = self.collection(name, database).query("", output_fields=["count(*)"], consistency_level="Strong")
        return int(answer[0]["count(*)"])

    def rows(self, name: str, database: str = DEFAULT) -> dict[int | str, Row]:
        """Every row by its primary key. A collection that isn't loaded is loaded first, and released afterwards."""
        collection = self.collection(name, database)
        loaded = self._is_loaded(name, database)
        collection.load()  # also waits for a load in progress, as after a restart of the server
        try:
            # One strongly consistent query: after it, the server has seen every write, and pages needn't wait.
            counted = self.count(name, database)
            found: dict[int | str, Row] = {}
            for partition, entity in self._entities(collection):
                row = {key: _exact(value) for key, value in entity.items()}
                if partition is not None:
                    row["$partition"] = partition
                key = row[collection.primary_field.name]
                if key in found:
                    raise AssertionError(f"{database}.{name} holds the key {key!r} twice")
                found[key] = row
            if counted != len(found):
                raise AssertionError(f"{database}.{name} counts {counted} rows, but {len(found)} were read")
            return found
        finally:
            if not loaded:
                collection.release()

    def definition(self, name: str, database: str = DEFAULT) -> dict[str, Any]:
        """Everything that a user can see of a collection except its rows, without ids and times."""
        collection = self.collection(name, database)
        described = collection.describe()
        keyed = any(column.is_partition_key for column in collection.schema.fields)
        return {
            "schema": collection.schema.to_dict(),
            "shards": described["num_shards"],
            "consistency": described["consistency_level"],
            "properties": described.get("properties", {}),
            "partitions": len(collection.partitions) if keyed else sorted(p.name for p in collection.partitions),
            "indexes": sorted(([i.field_name, i.index_name, i.params] for i in collection.indexes), key=str),
            "aliases": sorted(collection.aliases),
            "loaded": self._is_loaded(name, database),
        }

    def capture(self, names: Iterable[tuple[str, str]] | None = None) -> dict[tuple[str, str], Contents]:
        """Reads whole collections, by database and name: the existing ones of `names`, or all collections."""
        present = [(database, name) for database in self.databases() for name in self.collections(database)]
        wanted = present if names is None else set(names).intersection(present)
        return {
            (database, name): Contents(self.definition(name, database), self.rows(name, database))
            for database, name in sorted(wanted)
        }

    def __enter__(self) -> MilvusData:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for connection in self._connections.values():
            connections.disconnect(connection)
        self._connections.clear()

    def _entities(self, collection: Collection) -> Iterator[tuple[str | None, Row]]:
        # With a partition key, Milvus refuses partition names in a query.
        keyed = any(column.is_partition_key for column in collection.schema.fields)
        for partition in [None] if keyed else sorted(p.name for p in collection.partitions):
            pages = collection.query_iterator(
                batch_size=BATCH,
                output_fields=["*"],
                partition_names=None if partition is None else [partition],
                consistency_level="Eventually",
            )
            while page := pages.next():
                for entity in page:
                    yield partition, entity
            pages.close()

    def _is_loaded(self, name: str, database: str) -> bool:
        return bool(utility.load_state(name, using=self._connection(database)) != LoadState.NotLoad)

    def _connection(self, database: str) -> str:
        """The connection to a database, made when first needed: pymilvus binds each connection to one database."""
        if database not in self._connections:
            if database != DEFAULT and database not in self.databases():
                db.create_database(database, using=self._connection(DEFAULT))
            alias = f"{database}-{uuid.uuid4()}"
            connections.connect(alias, uri=self.uri, db_name=database)
            self._connections[database] = alias
        return self._connections[database]


def differences(
    before: Mapping[tuple[str, str], Contents], after: Mapping[tuple[str, str], Contents], examples: int = 3
) -> list[str]:
    """Messages about the differences of two captures. If empty, they are the same to the last bit."""
    found: list[str] = []
    for place in sorted(before.keys() | after.keys()):
        name = ".".join(place)
        if place not in after:
            found.append(f"{name}: is missing")
        elif place not in before:
            found.append(f"{name}: wasn't there")
        else:
            found += [f"{name}: {what}" for what in _contents_differ(before[place], after[place], examples)]
    return found


def _contents_differ(before: Contents, after: Contents, examples: int) -> Iterator[str]:
    for part in before.definition:
        if before.definition[part] != after.definition[part]:
            yield f"{part} was {before.definition[part]!r}, is {after.definition[part]!r}"
    missing = before.rows.keys() - after.rows.keys()
    added = after.rows.keys() - before.rows.keys()
    changed = [key for key in before.rows.keys() & after.rows.keys() if before.rows[key] != after.rows[key]]
    for what, keys in (("rows are missing", missing), ("rows were added", added), ("rows changed", changed)):
        if keys:
            yield f"{len(keys)} {what}, among them {sorted(keys, key=str)[:examples]}"


def _schema(dataset: Dataset) -> CollectionSchema:
    key_options = {"max_length": 64} if dataset.key is DataType.VARCHAR else {}
    return CollectionSchema(
        [
            FieldSchema("id", dataset.key, is_primary=True, auto_id=False, description="the key", **key_options),
            FieldSchema("vector", dataset.vector, dim=dataset.dimension),
            FieldSchema("title", DataType.VARCHAR, max_length=200, description="text in many scripts"),
            FieldSchema("tenant", DataType.INT64, is_partition_key=dataset.partition_key),
            FieldSchema("year", DataType.INT16),
            FieldSchema("score", DataType.DOUBLE),
            FieldSchema("visible", DataType.BOOL),
            FieldSchema("details", DataType.JSON),
            FieldSchema("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=8, max_length=20),
        ],
        description=f"{dataset.name}, made for a test",
        enable_dynamic_field=dataset.dynamic,
    )


def _rows(dataset: Dataset, numbers: range) -> list[Row]:
    # Seeded by the batch's first row, so that a part of a dataset can be generated without the rest.
    source = numpy.random.default_rng([numbers.start, dataset.dimension])
    if dataset.vector is DataType.BINARY_VECTOR:
        vectors: Iterable[Any] = (source.bytes(dataset.dimension // 8) for _ in numbers)
    else:
        vectors = source.random((len(numbers), dataset.dimension), dtype=numpy.float32).tolist()
    scores = source.normal(size=len(numbers)).tolist()
    words = itertools.cycle(["naïve", "東京", "größe", "плюс", "emoji 🙂", "", "a 'quote' \"two\"", "back\\slash"])
    return [
        {
            "id": dataset.key_of(number),
            "vector": vector,
            "title": f"{word} {number}",
            "tenant": number % 13,
            "year": 1990 + number % 40,
            "score": score,
            "visible": number % 3 == 0,
            "details": {"n": number, "nested": {"list": [1, 2.5, None, word]}, "flag": number % 2 == 0},
            "tags": [f"t{tag}" for tag in range(number % 4)],
            **({"colour": word, "weight": number / 7} if dataset.dynamic and number % 2 else {}),
        }
        for number, vector, score, word in zip(numbers, vectors, scores, words, strict=False)
    ]


def _exact(value: Any) -> Any:
    """A value in a compact form that compares bit by bit: vectors as their bytes."""
    if isinstance(value, list) and value and isinstance(value[0], (float, numpy.floating)):
        return array("f", value).tobytes()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return b"".join(value)
    return value
