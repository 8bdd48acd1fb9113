"""The location of a server's data: each form of root path that Milvus accepts, and a storage that isn't its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymilvus import Collection
from stack.dataset import Dataset, MilvusData, differences

from product import Product
from rows import fill
from test_bad_input import problem
from test_usage import meter, metered, usage  # noqa: F401

OTHER = "not-the-servers-own"


@pytest.fixture(scope="module", autouse=True)
def other_bucket(stack: Any) -> Iterator[None]:
    stack.emulator.client("s3").create_bucket(
        Bucket=OTHER, CreateBucketConfiguration={"LocationConstraint": stack.api.region}
    )
    yield


def check(preflight: dict[str, Any], name: str) -> tuple[str, str]:
    [found] = [check for check in preflight["checks"] if check["name"] == name]
    return found["status"], found["detail"]


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ({"rootPath": "elsewhere"}, "'elsewhere'"),
        ({"rootPath": ""}, "(empty)"),
        ({}, "(empty)"),
        ({"rootPath": "files/files"}, "'files/files'"),
        ({"bucket": OTHER, "rootPath": "files"}, "'files'"),
    ],
    ids=["elsewhere", "empty", "absent", "too-deep", "bucket"],
)
def test_a_storage_that_is_not_the_servers_is_told_at_once(product: Product, storage: dict[str, str], said: str) -> None:
    fill("items", 200)
    Collection("items").flush()
    storage = {"bucket": product.stack.milvus_bucket} | storage
    product.register(storage=storage)
    preflight = product.call("POST", "/preflight").expect(200)
    status, detail = check(preflight, "dataFound")
    assert not preflight["ok"] and status == "FAILED"
    # The bucket itself exists and can be read.
    assert check(preflight, "dataBucketReadable")[0] == "PASSED"
    refused = problem(product.call("POST", "/backups", {"name": "now"}), 502, "STORAGE_UNREACHABLE")
    for text in (detail, refused["detail"]):
        assert storage["bucket"] in text and said in text and "minio.rootPath" in text, text
    assert product.call("GET", "/backups").expect(200)["items"] == []

    product.register()
    preflight = product.call("POST", "/preflight").expect(200)
    assert preflight["ok"] and check(preflight, "dataFound")[0] == "PASSED", preflight
    product.backup("now")


@pytest.mark.parametrize(
    ("given", "stored"),
    [("", ""), ("/", ""), ("files/", "files"), ("/files", "files"), ("/a/b/c/", "a/b/c"), (None, "")],
)
def test_a_root_path_is_kept_in_one_form(product: Product, given: str | None, stored: str) -> None:
    storage = {"bucket": product.stack.milvus_bucket} | ({} if given is None else {"rootPath": given})
    assert product.register(storage=storage)["storage"]["rootPath"] == stored
    assert product.call("GET").expect(200)["storage"]["rootPath"] == stored


@pytest.mark.parametrize("given", ["a//b", "..", "a/../b", ".", "milvault-staging/", "/milvault-staging/x"])
def test_a_root_path_that_milvus_would_resolve_or_that_is_ours_is_refused(product: Product, given: str) -> None:
    body = {
        "name": product.instance,
        "endpoint": product.stack.milvus.uri,
        "region": product.deployment.api.region,
        "storage": {"bucket": product.stack.milvus_bucket, "rootPath": given},
    }
    refused = problem(product.call("PUT", "", body), 400, "VALIDATION_FAILED")
    assert [error["pointer"] for error in refused["errors"]] == ["/storage/rootPath"]


@pytest.mark.parametrize(
    ("configured", "registered", "prefix"),
    [("", None, ""), ("/", "/", ""), ("/deep/in/it/", "deep/in/it", "deep/in/it/")],
    ids=["empty", "slash", "nested"],
)
def test_a_server_with_this_root_path_is_backed_up_restored_and_metered(
    metered: Product,  # noqa: F811
    request: pytest.FixtureRequest,
    configured: str,
    registered: str | None,
    prefix: str,
) -> None:
    bucket = f"rooted-{request.node.callspec.id}"
    server = metered.stack.start_milvus(bucket, configured)
    try:
        server.wait_healthy()
        product = replace(metered, instance=f"{metered.instance}-there")
        storage = {"bucket": bucket} | ({} if registered is None else {"rootPath": registered})
        product.register(endpoint=server.uri, storage=storage)
        # The location of a server without data can't be checked.
        preflight = product.call("POST", "/preflight").expect(200)
        assert preflight["ok"] and check(preflight, "dataFound")[0] == "SKIPPED", preflight

        here = product.database
        with MilvusData(server.uri) as data:
            data.create(Dataset("items", 3_000, here, partitions=("one", "two")))
            preflight = product.call("POST", "/preflight").expect(200)
            assert preflight["ok"] and check(preflight, "dataFound")[0] == "PASSED", preflight
            s3 = product.stack.emulator.client("s3")
            listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
            assert any(item["Key"].startswith(f"{prefix}insert_log/") for item in listed)
            assert all(item["Key"].startswith(prefix) for item in listed)

            before = data.capture([(here, "items")])
            backup = product.backup("whole")
            data.delete(Dataset("items", 3_000, here), range(1_000))
            product.restore(backupName="whole")
            assert differences(before, data.capture([(here, "items")])) == []
            product.restore(
                backupName="whole", mode="CREATE", collections=[f"{here}.items"], rename={f"{here}.items": f"{here}.beside"}
            )
            both = data.capture([(here, "items"), (here, "beside")])
            assert both[here, "beside"].rows == both[here, "items"].rows == before[here, "items"].rows
            # The staged objects beside Milvus's own folders are removed, and nothing in Milvus's folders is.
            assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="milvault-staging/")
            # The restored data can be backed up like the first.
            again = product.backup("again")
            assert product.call("POST", f"/backups/{again['backupId']}/verify").expect(200)["status"] == "AVAILABLE"
    finally:
        metered.stack.milvus_servers.remove(server)
        server.kill()
    meter(product, ahead=2)
    lines = usage(product, granularity="HOUR")
    last = [line for line in lines if line["periodStart"] == lines[-1]["periodStart"]]
    assert sum(line["byteHours"] for line in last) == sum(product.stored().values()) > backup["sizeBytes"]
