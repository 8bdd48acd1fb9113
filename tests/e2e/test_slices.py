"""Functions with a few seconds to live, spread over several workers, and killed at any moment: a deployment of its own
beside the other tests'."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy
import pytest
from pymilvus import Collection
from stack.deploy import Deployment
from stack.local_stack import LocalStack
from stack.process import poll

from product import ENDED, Product
from rows import delete, drop, fill, insert, rows_of

KILLS = 20


@pytest.fixture(scope="module")
def hasty(stack: LocalStack) -> Deployment:
    """Slices of two seconds: the least that the template takes, less the margin for the hand-over."""
    return stack.add_deployment("hasty", {"FunctionTimeout": 3, "JobLeaseSeconds": 6})


@pytest.fixture
def short(product: Product, hasty: Deployment) -> Iterator[Product]:
    """The product in slices, with three workers that copy."""
    short = replace(product, deployment=hasty)
    short.register(copyWorkers=3)
    yield short


def log_lines(product: Product, pattern: str) -> list[str]:
    """What the functions logged of the invocations that are over."""
    logs = product.stack.emulator.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=product.deployment.log_group)
    messages = (event["message"] for page in pages for event in page["events"])
    return [message for message in messages if re.search(pattern, message)]


def test_a_backup_goes_on_over_many_invocations(short: Product) -> None:
    # As many as keep a fast machine busy for more than five slices.
    names = [f"part_{number:02}" for number in range(32)]
    for number, name in enumerate(names):
        fill(name, 600, seed=number, deleted=50)
    before = {name: rows_of(name) for name in names}
    # A slow machine gets little done in slices of two seconds.
    backup = short.ended(f"/backups/{short.start_backup('sliced')}", "AVAILABLE", seconds=900)
    assert backup["collectionCount"] == len(names)
    assert backup["sizeBytes"] == backup["addedBytes"] == sum(short.stored().values())

    def slices() -> int:
        return len(log_lines(short, rf"{backup['backupId']}.*the slice is over|the slice is over.*{backup['backupId']}"))

    assert poll(lambda: slices() >= 5, 30), slices()
    assert log_lines(short, "a page was copied for another invocation")

    again = short.ended(f"/backups/{short.start_backup('unchanged')}", "AVAILABLE", seconds=900)
    assert again["addedBytes"] == 0 and again["sizeBytes"] == backup["sizeBytes"]
    verified = short.call("POST", f"/backups/{backup['backupId']}/verify").expect(200, 202)
    assert verified["status"] == "AVAILABLE"

    # Restored by functions that have more time: slices of a restore are another test's.
    short.call("DELETE", f"/backups/{backup['backupId']}").expect(200, 202)

    def is_deleted() -> bool:
        short.sweep()
        return short.call("GET", f"/backups/{backup['backupId']}").expect(200)["status"] == "DELETED"

    assert poll(is_deleted, 60)
    assert sum(short.stored().values()) == again["sizeBytes"]
    checked = short.call("POST", f"/backups/{again['backupId']}/verify").expect(200, 202)
    assert checked["verification"]["missing"] == checked["verification"]["changed"] == []
    assert {name: rows_of(name) for name in before} == before


def test_a_killed_function_costs_time_and_nothing_else(short: Product) -> None:
    chance = random.Random(11)
    for number in range(3):
        fill(f"part_{number}", 3_000, seed=number)
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
            # As the rule does every fifteen minutes.
            poll(lambda: short.sweep()["resumed"] or is_over(), 15, every=0.5)
        assert state["status"] == "AVAILABLE", state
        verified = short.call("POST", f"/backups/{backup}/verify").expect(200)
        assert (verified["verification"]["missing"], verified["verification"]["changed"]) == ([], [])

    last = {f"part_{number}": rows_of(f"part_{number}") for number in range(3)}
    for listed in short.call("GET", "/backups").expect(200)["items"][1:]:
        short.call("DELETE", f"/backups/{listed['backupId']}").expect(200, 202)
    assert poll(lambda: short.sweep() and len(short.call("GET", "/backups").expect(200)["items"]) == 1, 60)
    [kept] = short.call("GET", "/backups").expect(200)["items"]
    assert sum(short.stored().values()) == kept["sizeBytes"]
    drop("part_1")
    restore = short.start_restore(backupId=kept["backupId"])

    def is_restored() -> bool:
        # A restore's steps can outlast functions that are this hasty; then the rule drives it on.
        short.sweep()
        return short.call("GET", f"/restores/{restore}").expect(200)["status"] == "COMPLETED"

    assert poll(is_restored, 240, every=2)
    assert {name: rows_of(name) for name in last} == last
    assert short.staged() == []
