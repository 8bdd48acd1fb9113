"""The engine gate, with servers that report the versions of managed builds."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stack.local_stack import LocalStack

from product import Product
from rows import fill
from test_bad_input import problem


@pytest.fixture(scope="module")
def fake_milvus(stack: LocalStack) -> Path:
    return stack.binaries["fake_milvus"]


@contextmanager
def serving(program: Path, version: str) -> Iterator[tuple[str, str]]:
    """The endpoints of a server that reports this version."""
    with subprocess.Popen([program, version], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdin is not None
            endpoint, management = server.stdout.readline().split()
            yield endpoint, management
        finally:
            server.stdin.close()
            server.wait(10)


def checks(preflight: dict) -> dict[str, str]:
    return {check["name"]: check["status"] for check in preflight["checks"]}


@pytest.mark.parametrize(
    ("version", "upgrade"),
    [
        ("2.4.21-0.1.0_3.2", "2.4.22-0.1.0_3.2"),
        ("2.4.22-0.1.0_3.1", "2.4.22-0.1.0_3.2"),
        ("2.5.4-0.1.1_3.1", "2.5.4-0.1.1_3.2"),
        ("2.5.4-0.1.0_3.2", "2.5.4-0.1.1_3.2"),
        ("v2.3.3", "2.3.4"),
        ("v2.2-testing-20230824-68-ga34a9d606", "2.3.4"),  # as 2.3.0 reports itself
    ],
)
def test_a_build_before_the_first_supported_one_is_refused_with_what_to_upgrade_to(
    product: Product, fake_milvus: Path, version: str, upgrade: str
) -> None:
    fill("items", 100)
    real = product.backup("of-the-real-one")
    with serving(fake_milvus, version) as (endpoint, management):
        registered = product.register(endpoint=endpoint, managementEndpoint=management)
        assert registered["reportedEngineVersion"] is None
        refused = problem(product.call("POST", "/backups", {"name": "now"}), 409, "ENGINE_VERSION_UNSUPPORTED")
        assert upgrade in refused["detail"] and version in refused["detail"]
        body = {"backupId": real["backupId"]}
        refused = problem(product.call("POST", "/restores", body), 409, "ENGINE_VERSION_UNSUPPORTED")
        assert upgrade in refused["detail"]
        preflight = product.call("POST", "/preflight").expect(200)
        found = checks(preflight)
        assert not preflight["ok"] and found["version"] == "FAILED" and found["reachable"] == "PASSED"
        [detail] = [check["detail"] for check in preflight["checks"] if check["name"] == "version"]
        assert upgrade in detail
        # The version that the server reports is the one that is checked and recorded.
        assert product.call("GET").expect(200)["reportedEngineVersion"] == version
    product.register()
    assert [backup["name"] for backup in product.call("GET", "/backups").expect(200)["items"]] == ["of-the-real-one"]


@pytest.mark.parametrize("version", ["2.4.22-0.1.0_3.2", "2.5.4-0.1.1_3.2", "v2.3.4", "v2.5.4-3-gabc-dev"])
def test_the_first_supported_build_of_a_line_is_backed_up(product: Product, fake_milvus: Path, version: str) -> None:
    with serving(fake_milvus, version) as (endpoint, management):
        product.register(endpoint=endpoint, managementEndpoint=management)
        backup = product.call("POST", "/backups", {"name": "now"}).expect(202)
        backup = product.ended(f"/backups/{backup['backupId']}", "AVAILABLE")
        assert backup["engineVersion"] == version


@pytest.mark.parametrize("version", ["2.4", "2.4.22-0.1.0", "main-1234", "2.4.22-0.1.0_3.2_1"])
def test_what_is_not_a_version_is_never_supported(product: Product, fake_milvus: Path, version: str) -> None:
    with serving(fake_milvus, version) as (endpoint, _):
        product.register(endpoint=endpoint)
        problem(product.call("POST", "/backups", {"name": "now"}), 409, "ENGINE_VERSION_UNSUPPORTED")


def test_a_registration_can_be_checked_at_once(product: Product, fake_milvus: Path) -> None:
    body = {
        "name": product.instance,
        "endpoint": product.stack.milvus.uri,
        "region": product.deployment.api.region,
        "storage": {"bucket": product.stack.milvus_bucket, "rootPath": "files"},
        "managementEndpoint": product.stack.milvus.management_uri,
    }
    assert "preflight" not in product.call("PUT", "", body).expect(200)
    checked = product.call("PUT", "", body, query={"check": "true"}).expect(200)
    preflight = checked["preflight"]
    assert checked["instanceId"] == product.instance and preflight["ok"], preflight
    assert checks(preflight) == {
        "reachable": "PASSED",
        "authenticated": "PASSED",
        "version": "PASSED",
        "visibility": "PASSED",
        "dataBucketReadable": "PASSED",
        "stagingWritable": "PASSED",
        "snapshotBucketWritable": "PASSED",
        "dataFound": checks(preflight)["dataFound"],
        "garbageCollectionHold": checks(preflight)["garbageCollectionHold"],
        "clocks": "PASSED",
    }
    assert checks(preflight)["garbageCollectionHold"] in ("PASSED", "SKIPPED")
    assert checks(preflight)["dataFound"] in ("PASSED", "SKIPPED"), "depends on the collections that other tests left"
    problem(product.call("PUT", "", body, query={"check": "maybe"}), 400, "VALIDATION_FAILED")
    # An instance that fails its checks is registered all the same, and the answer has the failed checks.
    with serving(fake_milvus, "2.4.22-0.1.0_3.1") as (endpoint, management):
        changed = body | {"endpoint": endpoint, "managementEndpoint": management}
        preflight = product.call("PUT", "", changed, query={"check": "true"}).expect(200)["preflight"]
        assert not preflight["ok"] and checks(preflight)["garbageCollectionHold"] == "PASSED"
