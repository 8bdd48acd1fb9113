"""Functions that live for seconds, use several copy workers, and are killed at any moment, in a separate deployment."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy
import pytest
from pymilvus import Collection
from stack.deploy import Deployment
from stack.local_stack import LocalStack
from stack.process import poll

from product import ENDED, Product
from rows import delete, drop, fill_all, insert, rows_of_all

KILLS = 20


@pytest.fixture(scope="module")
def hasty(stack: LocalStack) -> Deployment:
    """Slices of two seconds: the template's shortest time-out, minus the margin for the hand-over."""
    return stack.add_deployment("hasty", {"FunctionTimeout": 3, "JobLeaseSeconds": 6})


@pytest.fixture
def short(product: Product, hasty: Deployment) -> Iterator[Product]:
    """The product with short slices and three copy workers."""
    short = replace(product, deployment=hasty)
    short.register(copyWorkers=3)
    yield short


def driven(product: Product, below: str) -> Any:
    """The job once it is over. If its function reached its time-out, the sweep resumes the job, as the scheduled sweep
    would some minutes later."""

    def is_over() -> bool:
        product.sweep()
        return product.call("GET", below).expect(200)["status"] in ENDED

    assert poll(is_over, 900, every=2), product.call("GET", below).json
    return product.ended(below, "AVAILABLE")


def log_lines(product: Product, pattern: str) -> list[str]:
    """The functions' log lines of finished invocations."""
    logs = product.stack.emulator.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=product.deployment.log_group)
    messages = (event["message"] for page in pages for event in page["events"])
    return [message for message in messages if re.search(pattern, message)]


def test_a_backup_goes_on_over_many_invocations(short: Product) -> None:
    # Enough collections to keep a fast machine busy for more than five slices.
    names = fill_all((f"part_{number:02}" for number in range(32)), 600, deleted=50)
    before = rows_of_all(names)
    # A slow machine gets little done in slices of two seconds.
    backup = driven(short, f"/backups/{short.start_backup('sliced')}")
    assert backup["collectionCount"] == len(names)
    assert backup["sizeBytes"] == backup["addedBytes"] == sum(short.stored().values())

    def slices() -> int:
        return len(log_lines(short, rf"{backup['backupId']}.*the slice is over|the slice is over.*{backup['backupId']}"))

    assert poll(lambda: slices() >= 5, 30), slices()
    # Each slice was invoked by the one before, not by the sweep.
    assert len(log_lines(short, rf'the slice is over","end":"CONTINUED".*{backup["backupId"]}')) >= 4
    assert log_lines(short, "a page was copied for another invocation")

    again = driven(short, f"/backups/{short.start_backup('unchanged')}")
    assert again["addedBytes"] == 0 and again["sizeBytes"] == backup["sizeBytes"]
    verified = short.call("POST", f"/backups/{backup['backupId']}/verify").expect(200, 202)
    assert verified["status"] == "AVAILABLE"

    # Restored by functions with more time: another test covers the slices of a restore.
    short.call("DELETE", f"/backups/{backup['backupId']}").expect(200, 202)

    def is_deleted() -> bool:
        short.sweep()
        return short.call("GET", f"/backups/{backup['backupId']}").expect(200)["status"] == "DELETED"

    assert poll(is_deleted, 60)
    assert sum(short.stored().values()) == again["sizeBytes"]
    checked = short.call("POST", f"/backups/{again['backupId']}/verify").expect(200, 202)
    assert checked["verification"]["missing"] == checked["verification"]["changed"] == []
    assert rows_of_all(names) == before


def test_a_killed_function_costs_time_and_nothing_else(short: Product) -> None:
    chance = random.Random(11)
    names = fill_all((f"part_{number}" for number in range(3)), 3_000)
    kills, rounds = 0, 0
    while kills < KILLS:
        rounds += 1
        start = 3_000 + rounds * 100
        insert(Collection("part_1"), range(start, start + 100), numpy.random.default_rng(rounds))
        delete(Collection("part_2"), [rounds, rounds + 500])
        backup = short.start_backup(f"round-{rounds}")
        while True:
            end = chance.uniform(0.05, 3)
            state = {}

            def is_over() -> bool:
                state.update(short.call("GET", f"/backups/{backup}").expect(200))
                return state["status"] in ENDED

            if poll(is_over, end, every=0.1):
                break
            if kills < KILLS:
                kills += short.kill("create-backup")
            # As the rule of the sweep does every fifteen minutes.
            poll(lambda: short.sweep()["resumed"] or is_over(), 15, every=0.5)
        assert state["status"] == "AVAILABLE", state
        verified = short.call("POST", f"/backups/{backup}/verify").expect(200)
        assert (verified["verification"]["missing"], verified["verification"]["changed"]) == ([], [])

    last = rows_of_all(names)
    for listed in short.call("GET", "/backups").expect(200)["items"][1:]:
        short.call("DELETE", f"/backups/{listed['backupId']}").expect(200, 202)
    assert poll(lambda: short.sweep() and len(short.call("GET", "/backups").expect(200)["items"]) == 1, 60)
    [kept] = short.call("GET", "/backups").expect(200)["items"]
    assert sum(short.stored().values()) == kept["sizeBytes"]
    drop("part_1")
    restore = short.start_restore(backupId=kept["backupId"])

    def is_restored() -> bool:
        # A step of a restore can outlast such a short function; then the sweep resumes the restore.
        short.sweep()
        return short.call("GET", f"/restores/{restore}").expect(200)["status"] == "COMPLETED"

    assert poll(is_restored, 240, every=2)
    assert rows_of_all(names) == last
    assert short.staged() == []
