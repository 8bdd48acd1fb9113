"""What a backup wrote into the snapshot bucket, read as a support engineer would."""

from __future__ import annotations

import json
from typing import Any

import pyarrow

from product import Product


def collections(product: Product, backup: str) -> list[Any]:
    """What a backup's pages say of each collection."""
    s3 = product.stack.emulator.client("s3")
    found = []
    for key in sorted(product.stored(f"snapshots/{backup}/collections/")):
        body = s3.get_object(Bucket=product.deployment.snapshot_bucket, Key=key)["Body"].read()
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(body), "zstd") as lines:
            found += [json.loads(line) for line in lines.read().splitlines()]
    return found


def flush_timestamp(product: Product, backup: str, name: str) -> int:
    """A collection's point in time, in Milvus's own measure."""
    [found] = [page for page in collections(product, backup) if page["name"] == f"{product.database}.{name}"]
    return int(found["flushTimestamp"])
