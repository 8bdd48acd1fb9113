"""Restores on the real server of the stack, beside the imports that the server itself needs for them.

The same files, in as many import jobs, all asked for at once, into a collection that was made the same way, until its
rows are indexed: what a restore takes more than that is ours. Both are done twice, in turns, and the medians are compared.
The collections aren't loaded, neither before the backup nor after the restore.

usage: restores.py [options of cargo]
    the functions are those that go to AWS (--release) unless said otherwise (--profile dev)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from product import ENDED, Product
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
from pymilvus.grpc_gen import milvus_pb2
from pymilvus.grpc_gen.common_pb2 import ImportState, KeyValuePair
from snapshots import collections
from stack.deploy import build, deploy
from stack.local_stack import LocalStack
from stack.process import poll

ROUNDS = 2
SECONDS = 900
"""The most that one restore, or the imports of one, may take."""
BATCH = 10_000
STAGED = "imports-alone"
"""Where the files are that are imported without us: in the server's bucket, outside its root path."""
INDEX = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 128}}


@dataclass(frozen=True)
class Shape:
    """A collection to restore."""

    name: str
    rows: int
    dimension: int
    partitions: Sequence[str] = ("_default",)

    def make(self, name: str) -> Collection:
        """An empty one with its partitions and its index, as BUILD makes it."""
        schema = CollectionSchema(
            [
                FieldSchema("id", DataType.INT64, is_primary=True),
                FieldSchema("vector", DataType.FLOAT_VECTOR, dim=self.dimension),
                FieldSchema("label", DataType.VARCHAR, max_length=64),
            ]
        )
        collection = Collection(name, schema, num_shards=1)
        for partition in self.partitions[1:]:
            collection.create_partition(partition)
        collection.create_index("vector", INDEX)
        return collection

    def fill(self) -> None:
        """The collection with its rows, evenly over its partitions, flushed."""
        collection = self.make(self.name)
        random = numpy.random.default_rng(self.rows)
        each = self.rows // len(self.partitions)
        for place, partition in enumerate(self.partitions):
            for start in range(place * each, (place + 1) * each, BATCH):
                ids = range(start, min(start + BATCH, (place + 1) * each))
                vectors = random.random((len(ids), self.dimension), dtype=numpy.float32)
                collection.insert([[*ids], [*vectors], [f"label-{i}" for i in ids]], partition_name=partition)
        collection.flush()


SHAPES = {
    "64 partitions": Shape("parts", 64 * 100, 64, ("_default", *(f"part_{number:02}" for number in range(1, 64)))),
    "200,000 rows of 64 dimensions": Shape("rows", 200_000, 64),
}


@dataclass(frozen=True)
class Imports:
    """What a restore imports of a collection, without a restore."""

    shape: Shape
    partitions: Sequence[str]
    paths: Sequence[Sequence[str]]
    """The prefixes of the insert and of the delta logs, by partition."""
    end: int

    @staticmethod
    def staged(product: Product, shape: Shape, backup: str) -> Imports:
        """Copies a backup's files to where they can be imported from."""
        s3 = product.stack.emulator.client("s3")
        [capture] = collections(product, backup)
        source = product.deployment.snapshot_bucket
        for key in product.stored():
            _instance, _objects, _shard, collection, kind, below = key.split("/", 5)
            s3.copy_object(
                Bucket=product.stack.milvus_bucket,
                Key=f"{STAGED}/{kind}/{collection}/{below}",
                CopySource={"Bucket": source, "Key": key},
            )
        names = {partition["id"]: partition["name"] for partition in capture["partitions"]}
        used = sorted({segment["partitionId"] for segment in capture["segments"]})
        paths = [
            [f"{STAGED}/{kind}/{capture['id']}/{partition}/" for kind in ("insert_log", "delta_log")]
            for partition in used
        ]
        # 2.3 takes the end in milliseconds.
        return Imports(shape, [names[partition] for partition in used], paths, (int(capture["flushTimestamp"]) >> 18) + 1)

    def seconds(self) -> float:
        """Does them, and answers the time from the first call to the last completion, the index's included."""
        name = f"{self.shape.name}_alone"
        collection = self.shape.make(name)
        stub = connections._fetch_handler("default")._stub
        options = [KeyValuePair(key="backup", value="true"), KeyValuePair(key="end_ts", value=str(self.end))]
        requests = [
            milvus_pb2.ImportRequest(collection_name=name, partition_name=partition, files=files, options=options)
            for partition, files in zip(self.partitions, self.paths, strict=True)
        ]
        began = time.monotonic()
        answers = [call.result() for call in [stub.Import.future(request) for request in requests]]
        tasks = {task for answer in answers for task in answer.tasks}
        assert len(tasks) == len(requests), answers

        def are_over() -> bool:
            for task in list(tasks):
                state = stub.GetImportState(milvus_pb2.GetImportStateRequest(task=task))
                if state.state in (ImportState.ImportFailed, ImportState.ImportFailedAndCleaned):
                    raise RuntimeError(f"an import failed: {state}")
                if state.state != ImportState.ImportCompleted:
                    return False  # they end one after the other
                tasks.remove(task)
            return True

        def is_indexed() -> bool:
            progress = utility.index_building_progress(name)
            return progress["pending_index_rows"] == 0 and progress["indexed_rows"] >= self.shape.rows

        assert poll(are_over, SECONDS, every=0.1), f"{len(tasks)} imports aren't over"
        assert poll(is_indexed, SECONDS, every=0.1), utility.index_building_progress(name)
        took = time.monotonic() - began
        collection.drop()
        return took


@dataclass(frozen=True)
class Restored:
    """How long a restore took, and its phases."""

    seconds: float
    phases: dict[str, float]

    @staticmethod
    def measured(product: Product, shape: Shape, backup: str) -> Restored:
        """Restores a backup in the live collection's place, and drops what that was before."""
        seen: dict[str, float] = {}

        def is_over(found: Any) -> bool:
            seen.setdefault(found.get("phase") or found["status"], time.monotonic())
            return found["status"] in ENDED

        began = time.monotonic()
        restore = product.start_restore(backupId=backup)
        ended = product.until(f"/restores/{restore}", is_over, SECONDS)
        took = time.monotonic() - began
        assert ended["status"] == "COMPLETED" and not ended["warnings"], ended
        [collection] = ended["collections"]
        assert collection["rowsFound"] == shape.rows, collection
        utility.drop_collection(collection["previousCollection"].rpartition(".")[2])
        at = [*seen.values()]
        phases = {phase: later - then for phase, then, later in zip(seen, at, at[1:], strict=False)}
        return Restored(took, phases)


def compare(product: Product, title: str, shape: Shape) -> str:
    """Both, in turns; answers a line."""
    shape.fill()
    backup = product.backup(shape.name, collections=[f"default.{shape.name}"])["backupId"]
    imports = Imports.staged(product, shape, backup)
    restores, alone = [], []
    for _ in range(ROUNDS):
        restores.append(Restored.measured(product, shape, backup))
        alone.append(imports.seconds())
    utility.drop_collection(shape.name)
    product.call("DELETE", f"/backups/{backup}").expect(200, 202)
    median, own = statistics.median(restore.seconds for restore in restores), statistics.median(alone)
    names = dict.fromkeys(name for restore in restores for name in restore.phases)
    phases = ", ".join(
        f"{name} {statistics.median(restore.phases.get(name, 0) for restore in restores):.1f}" for name in names
    )
    return f"{title}: restored in {median:.1f} s ({phases}), its imports alone in {own:.1f} s, {median / own:.2f} times"


def main(options: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        binaries = build(Path(directory) / "build.log", *options)
    with LocalStack() as stack:
        connections.connect(uri=stack.milvus.uri)
        try:
            product = Product(stack, "bench", "default", deploy(stack.emulator, binaries, name="measured"))
            product.register()
            for title, shape in SHAPES.items():
                print(compare(product, title, shape), flush=True)
        finally:
            connections.disconnect("default")


if __name__ == "__main__":
    main(sys.argv[1:] or ["--release"])
