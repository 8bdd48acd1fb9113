"""Collections are identified by id: they are dropped, created again and renamed at exact moments of a backup."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from pymilvus import Collection, MilvusException, connections, utility

from interceptor import MilvusProxy, milvus_proxy, storage_proxy
from standalone_function import invoke_by_hand
from labels import SCHEMA, Labels, columns, create, create_with, labelled, labels_of
from product import Product


@pytest.fixture
def proxy(product: Product) -> Iterator[MilvusProxy]:
    """Registers a proxy as the instance's endpoint, through which a test acts."""
    with milvus_proxy(product.stack.milvus.uri) as proxy:
        product.register(endpoint=proxy.uri)
        yield proxy


NAMES = tuple(f"c{number:02}" for number in range(7))
"""Unchanged collections come before, between and after the changed ones, and must not be affected by them."""
RENAMED, CROSSED, CROSSING, RECREATED, DROPPED = "c01", "c02", "c03", "c04", "c05"
ROWS = {name: labelled(name, range(100 + 10 * number)) for number, name in enumerate(NAMES)}
FEW = {name: ROWS[name] for name in NAMES[:3]}


def rename(database: str) -> None:
    utility.rename_collection(RENAMED, "renamed", database)


def crosswise(database: str) -> None:
    for old, new in ((CROSSED, "aside"), (CROSSING, CROSSED), ("aside", CROSSING)):
        utility.rename_collection(old, new, database)


def recreate(_: str) -> None:
    utility.drop_collection(RECREATED)
    create_with(RECREATED, ANEW)


def drop(_: str) -> None:
    utility.drop_collection(DROPPED)


CHANGES = ((rename, [RENAMED]), (crosswise, [CROSSED, CROSSING]), (recreate, [RECREATED]), (drop, [DROPPED]))
"""Each change, with the collections that it changes."""


def change_all(database: str) -> None:
    for change, _ in CHANGES:
        change(database)


ANEW = labelled("anew", range(70))
AS_CHANGED = {name: rows for name, rows in ROWS.items() if name not in (RENAMED, DROPPED)} | {
    RECREATED: ANEW,
    "renamed": ROWS[RENAMED],
    CROSSED: ROWS[CROSSING],
    CROSSING: ROWS[CROSSED],
}


def saved(product: Product, backup: str) -> tuple[dict[str, int], dict[str, str], Any]:
    """A backup's row count per collection, the cause for each collection left out, and whether it is complete."""
    described = product.call("GET", f"/backups/{backup}").expect(200)
    counts = {
        collection["name"]: collection["entityCount"]
        for database in described["databases"]
        if database["name"] == product.database
        for collection in database["collections"]
    }
    left_out = {left["collection"].removeprefix(f"{product.database}."): left["cause"] for left in described["leftOut"]}
    return counts, left_out, described["complete"]


def restored(product: Product, backup: str) -> dict[str, Labels]:
    """Every row of a backup, restored after all collections are dropped."""
    for name in utility.list_collections():
        utility.drop_collection(name)
    product.restore(backupId=backup, keepPreviousHours=0)
    return labels_of(utility.list_collections())


@pytest.mark.parametrize("moment", ["before any flush", "before its own flush"])
def test_what_changes_between_the_survey_and_the_flush(product: Product, proxy: MilvusProxy, moment: str) -> None:
    for name, rows in ROWS.items():
        create_with(name, rows)
    if moment == "before any flush":
        moments = [proxy.once_before("Flush", NAMES, lambda: change_all(product.database))]
    else:
        moments = [proxy.once_before("Flush", names, partial(change, product.database)) for change, names in CHANGES]
    backup = product.start_backup("busy")
    ended = product.ended(f"/backups/{backup}", "AVAILABLE", "FAILED")
    for each in moments:
        each.verify()
    assert ended["status"] == "AVAILABLE", ended["failure"]

    counts, left_out, complete = saved(product, backup)
    assert counts == {name: len(rows) for name, rows in AS_CHANGED.items()}
    assert restored(product, backup) == AS_CHANGED
    # A collection that was dropped before its point in time isn't missing. `leftOut` may name the first RECREATED.
    assert {DROPPED: "DROPPED"} | dict.fromkeys(left_out.keys() & {RECREATED}, "DROPPED") == left_out
    assert complete is True


def test_what_changes_between_the_flush_and_the_copy(product: Product, proxy: MilvusProxy) -> None:
    for name, rows in ROWS.items():
        create_with(name, rows)
    # Started by hand, because the emulator gives its own address to the functions that it starts.
    with storage_proxy(product.stack.emulator.endpoint_url) as storage:
        changed = storage.once_before_a_copy(lambda: change_all(product.database))
        asked = {"instanceId": product.instance, "name": "busy", "collections": [f"{product.database}.*"]}
        told = invoke_by_hand(product, "create-backup", asked, {"AWS_ENDPOINT_URL": storage.uri})
    changed.verify()
    ended = product.ended(f"/backups/{told['backupId']}", "AVAILABLE", "FAILED")
    assert ended["status"] == "AVAILABLE", ended["failure"]

    counts, left_out, complete = saved(product, told["backupId"])
    assert counts == {name: len(rows) for name, rows in ROWS.items()}
    assert restored(product, told["backupId"]) == ROWS
    assert (left_out, complete) == ({}, True)


@pytest.mark.parametrize("moment", ["right after its flush", "after its listing"])
def test_what_changes_while_the_flush_is_looked_at(product: Product, proxy: MilvusProxy, moment: str) -> None:
    """Each collection is in the backup as of one flush: the flush before the change, or a later one after it."""
    for name, rows in ROWS.items():
        create_with(name, rows)
    once = proxy.once_flushed if moment == "right after its flush" else proxy.once_listed
    moments = [once(names, partial(change, product.database)) for change, names in CHANGES]
    backup = product.start_backup("busy")
    ended = product.ended(f"/backups/{backup}", "AVAILABLE", "FAILED")
    for each in moments:
        each.verify()
    assert ended["status"] == "AVAILABLE", ended["failure"]

    counts, left_out, complete = saved(product, backup)
    renamed = "renamed" if "renamed" in counts else RENAMED
    crossed = AS_CHANGED if counts.get(CROSSED) == len(AS_CHANGED[CROSSED]) else ROWS
    expected = {name: rows for name, rows in ROWS.items() if name != RENAMED} | {
        renamed: ROWS[RENAMED],
        CROSSED: crossed[CROSSED],
        CROSSING: crossed[CROSSING],
        RECREATED: ANEW if counts.get(RECREATED) == len(ANEW) else ROWS[RECREATED],
    }
    # A collection that was dropped before its segments were listed can't be captured any more.
    lost = left_out.keys() & {DROPPED} if moment == "right after its flush" else set()
    expected = {name: rows for name, rows in expected.items() if name not in lost}
    assert counts == {name: len(rows) for name, rows in expected.items()}, left_out
    assert restored(product, backup) == expected
    assert (left_out.keys() <= {RECREATED} | lost, complete) == (True, True)


def test_one_asked_for_by_name_that_is_dropped_before_its_flush(product: Product, proxy: MilvusProxy) -> None:
    for name in (DROPPED, NAMES[0]):
        create_with(name, ROWS[name])
    dropped = proxy.once_before("Flush", NAMES, lambda: utility.drop_collection(DROPPED))
    asked = [f"{product.database}.{name}" for name in (DROPPED, NAMES[0])]
    failed = product.ended(f"/backups/{product.start_backup('by-name', collections=asked)}", "FAILED", seconds=30)
    dropped.verify()
    dropped_one, other = asked
    assert dropped_one in failed["failure"]["message"] and other not in failed["failure"]["message"]
    assert failed["failure"]["code"] != "INTERNAL"


@pytest.fixture
def undescribed(product: Product) -> Iterator[str]:
    """A listed collection that can't be described: it has the same name as the alias of a dropped collection."""
    name = "c01_by_alias"
    handler = connections._fetch_handler("default")
    create("of_the_alias")
    utility.create_alias("of_the_alias", name)
    utility.drop_collection("of_the_alias")
    handler.create_collection(name, SCHEMA)
    assert name in utility.list_collections()
    with pytest.raises(MilvusException):
        handler.describe_collection(name)
    yield name
    utility.drop_alias(name)
    utility.drop_collection(name)


def test_one_that_cannot_be_described_does_not_cost_the_others(product: Product, undescribed: str) -> None:
    for name, rows in FEW.items():
        create_with(name, rows)
    backup = product.start_backup("of-a-pattern")
    ended = product.ended(f"/backups/{backup}", "AVAILABLE", "FAILED", seconds=90)
    assert ended["status"] == "AVAILABLE", ended["failure"]
    counts, left_out, complete = saved(product, backup)
    assert counts == {name: len(rows) for name, rows in FEW.items()}
    assert (left_out, complete) == ({undescribed: "TROUBLE"}, False)
    [left] = product.call("GET", f"/backups/{backup}").expect(200)["leftOut"]
    assert any(word in left["reason"] for word in ("describe", "alias", "not found")), left

    asked = [f"{product.database}.{name}" for name in (NAMES[0], undescribed)]
    failed = product.ended(f"/backups/{product.start_backup('by-name', collections=asked)}", "FAILED", seconds=60)
    assert undescribed in failed["failure"]["message"] and failed["failure"]["code"] != "MILVUS_UNREACHABLE"

    for name in FEW:
        utility.drop_collection(name)
    product.restore(backupId=backup, keepPreviousHours=0)
    assert labels_of(FEW) == FEW


def test_rows_of_one_key_all_come_back(product: Product) -> None:
    """Milvus doesn't define which row wins: only the number of rows and the values that can be found are compared."""
    collection = create("twice")
    collection.insert(columns(labelled("first", range(100))))
    collection.insert(columns(labelled("second", range(50, 150))))
    collection.load()

    def found() -> tuple[int, set[str]]:
        ask = partial(Collection("twice").query, consistency_level="Strong")
        [counted] = ask("", output_fields=["count(*)"])
        labels: set[str] = set()
        for mark in ("first", "second"):
            labels |= {row["label"] for row in ask(f'label like "{mark}%"', output_fields=["label"])}
        return counted["count(*)"], labels

    before = found()
    assert before == (200, {*labelled("first", range(100)).values(), *labelled("second", range(50, 150)).values()})
    backup = product.backup("twice")
    assert backup["entityCount"] == 200
    utility.drop_collection("twice")
    product.restore(backupId=backup["backupId"], keepPreviousHours=0)
    assert found() == before
