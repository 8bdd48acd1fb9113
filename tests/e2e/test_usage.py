"""Usage of snapshots: metering, the usage query, and the daily files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal, getcontext
from typing import Any

import pytest
from stack.emulator import REGION

from focus import failures
from product import ELSEWHERE, PRICES, Product
from rows import fill

GIB = 1 << 30
getcontext().prec = 60  # amounts are exact, and so must be the expected ones


@pytest.fixture
def metered(product: Product) -> Iterator[Product]:
    """Resets the meter's clock after the test."""
    yield product
    product.stack.set_clock_ahead(product.deployment.functions["usage"], timedelta())


def meter(product: Product, *, ahead: int) -> Any:
    """Meters every hour that is over, with the meter's clock this many hours ahead."""
    product.stack.set_clock_ahead(product.deployment.functions["usage"], timedelta(hours=ahead))
    return product.invoke("usage", {"action": "meter"})


def usage(product: Product, **query: Any) -> list[dict[str, Any]]:
    """Every line of the usage query, read in pages of three."""
    query = {"instance": product.instance, "limit": 3, "from": hour(-24), "to": hour(72), **query}
    found: list[dict[str, Any]] = []
    while True:
        page = product.deployment.api.call("GET", "/usage", query=query).expect(200)
        found += page["items"]
        assert len(page["items"]) <= 3
        if page["nextCursor"] is None:
            return found
        query["cursor"] = page["nextCursor"]


def hour(later: int) -> str:
    now = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    return (now + timedelta(hours=later)).strftime("%Y-%m-%dT%H:%M:%SZ")


def price(line: dict[str, Any]) -> Decimal:
    return Decimal(PRICES[0]["storageGibHour"]) * line["byteHours"] / GIB


def test_what_is_stored_is_billed_by_the_hour_to_the_oldest_that_needs_it(metered: Product) -> None:
    product = metered
    fill("items", 2_000)
    first = product.backup("first")
    fill("more", 1_000)
    second = product.backup("second")
    assert 0 < second["addedBytes"] < second["sizeBytes"]
    assert product.call("DELETE", f"/backups/{first['backupId']}").expect(200)["status"] == "DELETED"

    report = meter(product, ahead=3)
    assert [region["isWhole"] for region in report["regions"]] == [True, True]
    lines = usage(product, granularity="HOUR")
    for line in lines:
        assert (line["region"], line["currency"], line["unitPrice"]) == (REGION, "EUR", "0.0000315")
        assert Decimal(line["cost"]) == price(line)
    of_first = [line for line in lines if line["backupId"] == first["backupId"]]
    # A backup that is made and deleted in the same hour costs one hour. The test may run across the end of an hour.
    assert len(of_first) in (1, 2) and of_first[0]["byteHours"] == first["sizeBytes"]
    # After that, all objects in the bucket belong to the other backup.
    last = lines[-1]
    assert last["backupId"] == second["backupId"] and last["periodStart"] > of_first[-1]["periodStart"]
    assert last["byteHours"] == sum(product.stored().values()) == second["sizeBytes"]

    again = meter(product, ahead=3)
    assert all(region["records"] == 0 for region in again["regions"])
    assert usage(product, granularity="HOUR") == lines

    # Days and months are sums.
    for granularity in ("DAY", "MONTH"):
        summed = usage(product, granularity=granularity)
        for backup in (first, second):
            of_it = [line for line in lines if line["backupId"] == backup["backupId"]]
            sums = [line for line in summed if line["backupId"] == backup["backupId"]]
            assert sum(line["byteHours"] for line in sums) == sum(line["byteHours"] for line in of_it)
            assert sum(Decimal(line["cost"]) for line in sums) == sum(Decimal(line["cost"]) for line in of_it)


def test_a_day_is_written_out_in_the_form_that_the_field_uses(metered: Product) -> None:
    product = metered
    fill("items", 1_000)
    backup = product.backup("billed")
    report = meter(product, ahead=30)
    assert report["exportedDays"] >= 1
    files = exported(product, REGION)
    of_it = [row for file in files.values() for row in rows(file) if row["ResourceId"] == backup["backupId"]]
    days = usage(product, granularity="DAY")
    written = {row["ChargePeriodStart"][:10] for row in of_it}
    in_files = [line for line in days if line["periodStart"][:10] in written]
    assert of_it and sum(Decimal(row["BilledCost"]) for row in of_it) == sum(price(line) for line in in_files)
    for file in files.values():
        assert failures(file) == []
    wrong = next(iter(files.values())).replace(",EUR,", ",Euro,")
    assert failures(wrong) != [], "the validator doesn't find a wrong file"

    meter(product, ahead=30)
    assert exported(product, REGION) == files, "the same usage made different files"

    # A correction is a separate line beside the wrong one.
    corrected = usage(product, granularity="HOUR")[0]
    event = {
        "action": "correct",
        "correctionId": "ticket-4711",
        "region": REGION,
        "hour": corrected["periodStart"],
        "instanceId": product.instance,
        "backupId": backup["backupId"],
        "byteHours": -corrected["byteHours"],
        "reason": "the disk was ours, \"really\"",
    }
    made = product.invoke("usage", event)
    assert made["byteHours"] == -corrected["byteHours"] and made["correction"]["id"] == "ticket-4711"
    assert product.invoke("usage", event) == made
    assert product.invoke("usage", event | {"byteHours": -1})["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert product.invoke("usage", event | {"correctionId": "x", "hour": hour(-48)})["code"] == "VALIDATION_FAILED"
    lines = usage(product, granularity="HOUR")
    assert lines[0] == corrected and lines[1] == made
    again = [row for file in exported(product, REGION).values() for row in rows(file)]
    [row] = [row for row in again if row["x_CorrectionId"] == "ticket-4711"]
    assert (row["ChargeClass"], Decimal(row["BilledCost"])) == ("Correction", -price(corrected))

    # The same over HTTP.
    query = {"format": "focus", "from": hour(-24), "to": hour(72), "instance": product.instance, "limit": 1}
    answer = product.deployment.api.call("GET", "/usage", query=query)
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["x-next-cursor"]
    assert len(rows(answer.body.decode())) == 1 and failures(answer.body.decode()) == []


def test_every_region_is_metered_where_its_bytes_are(metered: Product) -> None:
    product = metered
    s3, bucket = product.stack.emulator.client("s3", ELSEWHERE), f"milvault-{ELSEWHERE}"
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": ELSEWHERE})
    fill("items", 1_000)
    here = product.backup("here")

    other = product.stack.start_milvus(f"data-{ELSEWHERE}", region=ELSEWHERE)
    try:
        other.wait_healthy()
        second = replace(product, instance=f"{product.instance}-there")
        storage = {"bucket": f"data-{ELSEWHERE}", "rootPath": "files"}
        second.register(endpoint=other.uri, storage=storage, region=ELSEWHERE)
        # Data restored from another region is live data in this region, and isn't billed.
        restored = second.restore(sourceInstanceId=product.instance, backupName="here")
        assert [collection["rowsFound"] for collection in restored["collections"]] == [1_000]
        there = second.backup("there")
        verified = second.call("POST", f"/backups/{there['backupId']}/verify").expect(200)
        assert verified["status"] == "AVAILABLE"
        second.restore(backupName="there")
    finally:
        product.stack.milvus_servers.remove(other)
        other.kill()
    assert (here["region"], there["region"]) == (REGION, ELSEWHERE)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{second.instance}/objects/")["Contents"]
    stored = sum(item["Size"] for item in listed)
    assert stored == there["sizeBytes"] and second.stored() == {}

    meter(product, ahead=2)
    [*_, line] = usage(second, granularity="HOUR")
    assert (line["region"], line["byteHours"]) == (ELSEWHERE, stored)
    # The region has no price, so the cost is null, not zero.
    assert (line["cost"], line["currency"], line["unitPrice"]) == (None, None, None)
    assert usage(second, region=REGION) == []
    lines = usage(product, granularity="HOUR")
    assert {line["region"] for line in lines} == {REGION} and lines[-1]["byteHours"] == sum(product.stored().values())
    query = {"format": "focus", "from": hour(-24), "to": hour(72), "instance": second.instance}
    answer = product.deployment.api.call("GET", "/usage", query=query)
    assert answer.status == 200 and rows(answer.body.decode()) == []
    assert second.call("DELETE", f"/backups/{there['backupId']}").expect(200)["status"] == "DELETED"
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=f"{second.instance}/objects/")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "2026-01-01T00:30:00Z"}, "from"),
        ({"to": "yesterday"}, "to"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
        ({"from": "2025-01-01T00:00:00Z", "to": "2026-06-01T00:00:00Z"}, "to"),
        ({"granularity": "WEEK"}, "granularity"),
        ({"format": "xml"}, "format"),
        ({"region": "Europe"}, "region"),
        ({"instance": "NOT AN ID"}, "instance"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"cursor": "forged"}, "cursor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_question_that_is_not_right_is_answered_with_the_field(
    product: Product, query: dict[str, str], field: str
) -> None:
    problem = product.deployment.api.call("GET", "/usage", query=query).expect(400)
    assert problem["code"] == "VALIDATION_FAILED" and [error["pointer"] for error in problem["errors"]] == [field]


def exported(product: Product, region: str) -> dict[str, str]:
    """The daily files of a region, by key."""
    s3, bucket = product.stack.emulator.client("s3"), product.deployment.snapshot_bucket
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"usage/region={region}/date=").get("Contents", [])
    return {
        item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read().decode() for item in listed
    }


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
