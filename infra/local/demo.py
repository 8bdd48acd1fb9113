"""`make demo`: backs up a real Milvus over the HTTP API, destroys data, restores it, and compares every row.

The exit code is 0 only if everything is as before. Nothing is left running.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from pymilvus import DataType

from stack.api import Api
from stack.dataset import Contents, Dataset, MilvusData, differences
from stack.emulator import REGION
from stack.local_stack import LocalStack

ARTICLES = Dataset("articles", 6000, key=DataType.VARCHAR, partitions=("fresh", "archived"), alias="articles_live")
PHOTOS = Dataset(
    "photos",
    4000,
    vector=DataType.BINARY_VECTOR,
    dimension=256,
    index={"index_type": "BIN_IVF_FLAT", "metric_type": "HAMMING", "params": {"nlist": 64}},
    loaded=False,
)
# About the storage price of S3: 0.023 USD per gibibyte and month.
PRICES = [{"region": REGION, "from": "2026-01-01", "currency": "USD", "storageGibHour": "0.0000315"}]
HOURS_OF_A_MONTH = 730
PRODUCTS = Dataset("products", 5000, database="shop", dimension=64)
VISITS = Dataset(
    "visits",
    4000,
    database="shop",
    partition_key=True,
    index={"index_type": "HNSW", "metric_type": "IP", "params": {"M": 8, "efConstruction": 64}},
)
DATASETS = (ARTICLES, PHOTOS, PRODUCTS, VISITS)
JOB_SECONDS = 600
TTY = sys.stdout.isatty()


def main() -> int:
    """Runs the demo."""
    started = time.monotonic()
    heading("Setting up (the first time, the functions have to be compiled)")
    with LocalStack(parameters={"Prices": json.dumps(PRICES)}, report=Steps().done) as stack, MilvusData(stack.milvus.uri) as data:
        heading("Filling Milvus")
        for dataset in DATASETS:
            data.create(dataset)
            detail(f"{dataset.database}.{dataset.name}", f"{dataset.kept:,} rows, {features(dataset)}")
        before = data.capture()

        heading("Backing up, over HTTP")
        register(stack)
        backup = back_up(stack.api, "before-the-accident")

        heading("Losing data")
        data.drop(ARTICLES.name)
        detail("default.articles", "dropped")
        data.delete(PRODUCTS, range(0, PRODUCTS.rows, 2))
        detail("shop.products", f"{data.count(PRODUCTS.name, PRODUCTS.database):,} rows left")

        heading("Restoring, over HTTP")
        restore(stack.api, backup)

        heading("Comparing every row with the rows before")
        after = data.capture(before)
        wrong = differences(before, after)
        table(before, after)

        heading("Cost of the snapshots, once the hour is over")
        statement(stack)
    print()
    if wrong:
        print(red("Differences from before:"))
        for difference in wrong:
            print(f"  {difference}")
        return 1
    print(green(f"Everything is as it was. {time.monotonic() - started:.0f} s, and nothing is left running."))
    return 0


def register(stack: LocalStack) -> None:
    body = {
        "name": "demo",
        "endpoint": stack.milvus.uri,
        "region": REGION,
        "storage": {"bucket": stack.milvus_bucket, "rootPath": "files"},
        "managementEndpoint": stack.milvus.management_uri,
    }
    stack.api.put("/instances/demo", body).expect(201)
    detail("PUT  /instances/demo", "registered")
    report = stack.api.post("/instances/demo/preflight").expect(200)
    failed = [check for check in report["checks"] if check["status"] == "FAILED"]
    if failed:
        raise RuntimeError(f"the instance can't be backed up: {failed}")
    detail("POST /instances/demo/preflight", f"{len(report['checks'])} checks, none failed")


def rows(counted: dict[str, Any]) -> str:
    bound = "at most " if counted["entityCountIs"] == "AT_MOST" else ""
    return f"{bound}{counted['entityCount']:,} rows"


def back_up(api: Api, name: str) -> str:
    """Takes a backup, shows its list and describe answers, and returns its id."""
    created = api.post("/instances/demo/backups", {"name": name}).expect(202)
    path = f"/instances/demo/backups/{created['backupId']}"
    detail("POST /instances/demo/backups", created["backupId"])
    backup = follow(api, path, "AVAILABLE")
    listed = api.get("/instances/demo/backups").expect(200)["items"]
    detail("GET  /instances/demo/backups", f"{len(listed)} backup, {listed[0]['name']}, {listed[0]['status']}")
    detail("GET  /instances/demo/backups/{id}", f"{rows(backup)}, {size(backup['sizeBytes'])}")
    for database in backup["databases"]:
        for collection in database["collections"]:
            name = f"{database['name']}.{collection['name']}"
            detail(f"  {name}", f"{rows(collection)}, {size(collection['sizeBytes'])}")
    backup_id: str = created["backupId"]
    return backup_id


def restore(api: Api, backup_id: str) -> None:
    created = api.post("/instances/demo/restores", {"backupId": backup_id}).expect(202)
    detail("POST /instances/demo/restores", created["restoreId"])
    done = follow(api, f"/instances/demo/restores/{created['restoreId']}", "COMPLETED")
    for collection in done["collections"]:
        unavailable = collection["unavailableMs"]
        swapped = "was missing" if unavailable is None else f"unavailable for {unavailable} ms"
        detail(f"  {collection['name']}", f"{collection['rowsFound']:,} rows, {swapped}")
    for warning in done["warnings"]:
        detail("  warning", warning)


def statement(stack: LocalStack) -> None:
    """Meters the present hour, with the meter's clock set ahead, and shows its cost."""
    usage = stack.deployment.functions["usage"]
    now = datetime.now(timezone.utc)
    hour = now.replace(minute=0, second=0, microsecond=0)
    stack.set_clock_ahead(usage, hour + timedelta(hours=1, minutes=6) - now)
    answer = stack.emulator.client("lambda").invoke(FunctionName=usage, Payload=json.dumps({"action": "meter"}))
    metered = json.loads(answer["Payload"].read())
    detail("the meter", f"{sum(region['records'] for region in metered['regions'])} record, of the hour from {hour:%H:%M} UTC")

    ends = (hour + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    begins = {"MONTH": hour.replace(day=1, hour=0), "HOUR": hour}
    lines = {
        granularity: stack.api.get(
            "/usage", query={"granularity": granularity, "from": begin.strftime("%Y-%m-%dT%H:%M:%SZ"), "to": ends}
        ).expect(200)["items"]
        for granularity, begin in begins.items()
    }
    detail("GET  /usage", f"{len(lines['MONTH'])} line")
    print("  {:<16}{:>12}{:>22}{:>24}".format("region", "stored", "cost so far", "would cost per month"))
    for region in sorted({line["region"] for line in lines["MONTH"]}):
        stored = sum(line["byteHours"] for line in lines["HOUR"] if line["region"] == region)
        so_far = sum(Decimal(line["cost"]) for line in lines["MONTH"] if line["region"] == region)
        an_hour = sum(Decimal(line["cost"]) for line in lines["HOUR"] if line["region"] == region)
        money = f"{so_far:.12f} USD", f"{an_hour * HOURS_OF_A_MONTH:.9f} USD"
        print(f"  {region:<16}{size(stored):>12}{money[0]:>22}{money[1]:>24}")


def follow(api: Api, path: str, wanted: str) -> dict[str, Any]:
    """Shows a job's progress until the job is over: in one line on a terminal, otherwise in a line per phase."""
    started = time.monotonic()
    shown = ""
    while True:
        job: dict[str, Any] = api.get(path).expect(200)
        if job["status"] not in ("PENDING", "RUNNING"):
            break
        phase = job.get("phase") or ""
        progress = job.get("progress") or {}
        percent = progress.get("percent", 0)
        if TTY:
            bar = "#" * (percent // 5)
            print(f"\r  {job['status']:<9} {phase:<8} [{bar:<20}] {percent:3} %", end="", flush=True)
        elif shown != phase:
            print(f"  {job['status']:<9} {phase}", flush=True)
        shown = phase
        if time.monotonic() - started > JOB_SECONDS:
            raise TimeoutError(f"{path} isn't over after {JOB_SECONDS} s: {job}")
        time.sleep(0.3)
    if TTY:
        print("\r" + " " * 60 + "\r", end="")
    if job["status"] != wanted:
        raise RuntimeError(f"{path} ended as {job['status']}: {job.get('failure')}")
    detail(job["status"], f"after {time.monotonic() - started:.1f} s")
    return job


def table(before: Mapping[tuple[str, str], Contents], after: Mapping[tuple[str, str], Contents]) -> None:
    columns = ("collection", "rows before", "rows after", "same rows", "definition", "loaded")
    print("  {:<20}{:>12}{:>12}{:>12}   {:<12}{}".format(*columns))
    for place, was in before.items():
        now = after.get(place, Contents({}, {}))
        same = sum(now.rows.get(key) == row for key, row in was.rows.items())
        all_same = same == len(was.rows) == len(now.rows)
        defined_so = was.definition == now.definition
        print(
            f"  {'.'.join(place):<20}{len(was.rows):>12,}{len(now.rows):>12,}"
            + mark(f"{same:>12,}", all_same)
            + mark(f"   {'same' if defined_so else 'differs':<12}", defined_so)
            + ("yes" if now.definition.get("loaded") else "no")
        )
    print("  Compared: every field of every row, vectors and dynamic fields to the bit, and its partition;")
    print("  schema, shards, partitions, indexes, aliases, properties and load state.")


class Steps:
    """Shows how long each step of the set-up took."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        detail(what, f"{now - self._last:.1f} s")
        self._last = now


def features(dataset: Dataset) -> str:
    """The special features of a dataset."""
    return ", ".join(
        [
            f"{'binary ' if dataset.vector is DataType.BINARY_VECTOR else ''}vectors of {dataset.dimension}",
            str(dataset.index["index_type"]),
            *([f"{len(dataset.partitions) + 1} partitions"] if dataset.partitions else []),
            *(["partition key"] if dataset.partition_key else []),
            *([f"alias {dataset.alias}"] if dataset.alias else []),
            *(["not loaded"] if not dataset.loaded else []),
        ]
    )


def heading(text: str) -> None:
    print(f"\n{colour(text, '1')}", flush=True)


def detail(what: str, value: str) -> None:
    print(f"  {what:<42}{value}", flush=True)


def size(count: int) -> str:
    return f"{count / 1_000_000:.1f} MB"


def mark(text: str, good: bool) -> str:
    return green(text) if good else red(text)


def green(text: str) -> str:
    return colour(text, "32")


def red(text: str) -> str:
    return colour(text, "31")


def colour(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if TTY else text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:
        print(red(f"\nThe demo failed: {error!r}"), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nInterrupted; everything is stopped.", file=sys.stderr)
        sys.exit(130)
