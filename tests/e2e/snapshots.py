"""A backup's documents in the snapshot bucket, read as a support engineer would read them."""

from __future__ import annotations

import json
from typing import Any

import pyarrow

from product import Product


def collections(product: Product, backup: str) -> list[Any]:
    """The description of each collection in a backup's pages."""
    s3 = product.stack.emulator.client("s3")
    found = []
    for key in sorted(product.stored(f"snapshots/{backup}/collections/")):
        body = s3.get_object(Bucket=product.deployment.snapshot_bucket, Key=key)["Body"].read()
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd") as lines:
            found += [json.loads(line) for line in lines.read().splitlines()]
    return found


def flush_timestamp(product: Product, backup: str, name: str) -> int:
    """A collection's point in time, as Milvus's hybrid timestamp."""
    [found] = [page for page in collections(product, backup) if page["name"] == f"{product.database}.{name}"]
    return int(found["flushTimestamp"])
