"""One stack for all end-to-end tests: the deployed template, and a real Milvus on the emulated S3."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator

import pytest
from pymilvus import connections, db
from stack.local_stack import LocalStack

from product import ELSEWHERE, PRICES, Product


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    # Short, so that the tests don't wait long for a dead worker's lease, and for an import that a killed Milvus forgot.
    parameters = {
        "JobLeaseSeconds": 10,
        "ImportStallSeconds": 15,
        "Prices": json.dumps(PRICES),
        "SnapshotBuckets": f"{ELSEWHERE}=milvault-{ELSEWHERE}",
        "SnapshotBucketArns": f"arn:aws:s3:::milvault-{ELSEWHERE}",
    }
    # Small pages: even a test's few objects are more than one.
    with LocalStack(parameters=parameters, environment={"OBJECTS_PER_PAGE": "40"}, report=print) as stack:
        connections.connect(uri=stack.milvus.uri)
        yield stack
        connections.disconnect("default")


@pytest.fixture
def product(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[Product]:
    """An instance of the test's own, registered, and a database of its own in the shared Milvus."""
    revive(stack)
    name = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")
    name = f"{name[:32]}_{zlib.crc32(request.node.nodeid.encode()):08x}"
    if name not in db.list_database():
        db.create_database(name)
    db.using_database(name)
    product = Product(stack, name.replace("_", "-"), name, stack.deployment)
    product.register()
    yield product
    revive(stack)  # here too, so that the log is seen with the test that the server failed
    db.using_database("default")


def revive(stack: LocalStack) -> None:
    """Starts the server again, if it ended by itself."""
    if said := stack.milvus.revive():
        print(f"Milvus had ended and was started again:\n{said}")
        connections.disconnect("default")
        connections.connect(uri=stack.milvus.uri)
