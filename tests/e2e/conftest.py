"""One stack for all end-to-end tests: the deployed template, and a real Milvus on the emulated S3."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

# Set before gRPC is imported: its fork support (1.85) makes two of a hundred servers end before they have started.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import pytest
from pymilvus import MilvusException, connections, db, utility
from stack.local_stack import LocalStack

from product import ELSEWHERE, PRICES, Product

LONG = ("restores", "crashes", "identity", "openapi", "slices", "backup_and_restore", "client", "auto_backup",
        "restored_partitions", "restored_names", "usage", "root_paths", "retried_writes", "writer")  # fmt: skip
"""The files whose tests take minutes, the longest first."""


def pytest_configure(config: pytest.Config) -> None:
    # Files are handed to the workers in the order in which they are collected, not by how many tests each has.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the long files first: if a long file started last, the run would wait for it alone."""
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    # Short, so that the tests don't wait long for a dead worker's lease or an import that a killed Milvus forgot.
    parameters = {
        "JobLeaseSeconds": 10,
        "ImportStallSeconds": 15,
        "Prices": json.dumps(PRICES),
        "SnapshotBuckets": f"{ELSEWHERE}=milvault-{ELSEWHERE}",
        "SnapshotBucketArns": f"arn:aws:s3:::milvault-{ELSEWHERE}",
    }
    # Small pages, so that even a test's few objects fill more than one.
    with LocalStack(parameters=parameters, environment={"OBJECTS_PER_PAGE": "40"}, report=print) as stack:
        connections.connect(uri=stack.milvus.uri)
        yield stack
        connections.disconnect("default")


@pytest.fixture
def product(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[Product]:
    """A registered instance for one test, with a separate database in the shared Milvus."""
    revive(stack)
    name = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")
    name = f"{name[:32]}_{zlib.crc32(request.node.nodeid.encode()):08x}"
    if name not in db.list_database():
        db.create_database(name)
    db.using_database(name)
    product = Product(stack, name.replace("_", "-"), name, stack.deployment)
    product.register()
    yield product
    revive(stack)  # here too, so that the log is shown with the test during which the server failed
    clear(name)
    db.using_database("default")


def clear(database: str) -> None:
    """Drops the collections of a test's databases: two hundred loaded collections use half a core even without queries,
    and each new one takes half as long again to load."""
    for found in db.list_database():
        if found.startswith(database):
            db.using_database(found)
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(drop, utility.list_collections()))


def drop(collection: str) -> None:
    # Collections that can't be found under their names, or are being created, stay.
    with suppress(MilvusException):
        utility.drop_collection(collection, timeout=20)


def revive(stack: LocalStack) -> None:
    """Starts the server again if it ended by itself."""
    if said := stack.milvus.revive():
        print(f"Milvus had ended and was started again:\n{said}")
        connections.disconnect("default")
        connections.connect(uri=stack.milvus.uri)
