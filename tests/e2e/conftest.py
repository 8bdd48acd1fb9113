"""One stack for all end-to-end tests: the deployed template, and a real Milvus on the emulated S3."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pymilvus import connections, db
from stack.local_stack import LocalStack

from product import Product


@pytest.fixture(scope="session")
def stack() -> Iterator[LocalStack]:
    # A short lease, so that the tests don't wait long for a dead worker's.
    with LocalStack(parameters={"JobLeaseSeconds": 10}, report=print) as stack:
        connections.connect(uri=stack.milvus.uri)
        yield stack
        connections.disconnect("default")


@pytest.fixture
def product(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[Product]:
    """An instance of the test's own, registered, and a database of its own in the shared Milvus."""
    name = re.sub(r"[^a-z0-9]+", "_", request.node.name.lower()).strip("_")[:40]
    if name not in db.list_database():
        db.create_database(name)
    db.using_database(name)
    product = Product(stack, name.replace("_", "-"), name)
    product.register()
    yield product
    db.using_database("default")
