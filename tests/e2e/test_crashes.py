"""Milvus killed during a job, a lost worker, and a caller who cancels."""

from __future__ import annotations

import time

import pytest
from pymilvus import Collection, connections, db, utility

from product import Product
from rows import delete, fill, fill_all, rows_of, rows_of_all


def restart_milvus(product: Product) -> None:
    product.stack.milvus.start()
    product.stack.milvus.wait_healthy()
    connections.disconnect("default")
    connections.connect(uri=product.stack.milvus.uri)
    db.using_database(product.database)


def until_queryable(name: str, seconds: float = 120) -> None:
    """Waits for a collection that a restarted Milvus loads again, which takes a while."""
    utility.wait_for_loading_complete(name, timeout=seconds)


def test_milvus_killed_in_the_middle_of_a_backup(product: Product) -> None:
    before = rows_of_all(fill_all((f"part_{number}" for number in range(4)), 5_000, deleted=100))
    backup = product.start_backup("interrupted")
    product.until(f"/backups/{backup}", lambda b: b["status"] != "PENDING")
    product.stack.milvus.kill()
    restart_milvus(product)

    ended = product.ended(f"/backups/{backup}", "AVAILABLE", "FAILED")
    for name, rows in before.items():
        until_queryable(name)
        assert rows_of(name) == rows
    if ended["status"] == "FAILED":
        assert ended["failure"]["code"] and product.stored("") == {}
        product.backup("interrupted")  # a failed backup frees its name
    drop_half = Collection("part_0")
    delete(drop_half, list(range(2_500)))
    product.restore(backupName="interrupted", collections=[f"{product.database}.part_0"])
    assert rows_of("part_0") == before["part_0"]


PHASES = ("STAGE", "BUILD", "IMPORT", "VERIFY", "SWAP", "CLEAN")


@pytest.mark.parametrize("phase", ["STAGE", "IMPORT", "VERIFY"])
def test_milvus_killed_in_the_middle_of_a_restore(product: Product, phase: str) -> None:
    saved = rows_of_all(fill_all((f"part_{number}" for number in range(3)), 5_000, deleted=100))
    product.backup("good")
    delete(Collection("part_1"), list(range(2_000)))
    live = rows_of_all(saved)

    restore = product.start_restore(backupName="good")
    # In this phase, or as soon afterwards as a caller can see it.
    reached = (*PHASES[PHASES.index(phase) :], None)
    product.until(f"/restores/{restore}", lambda r: r["status"] != "PENDING" and r.get("phase") in reached)
    product.stack.milvus.kill()
    restart_milvus(product)

    ended = product.ended(f"/restores/{restore}", "COMPLETED", "FAILED", seconds=400)
    expected = saved if ended["status"] == "COMPLETED" else live
    for name, rows in expected.items():
        until_queryable(name)
        assert rows_of(name) == rows
    if ended["status"] == "FAILED":
        assert ended["failure"]["code"]
        assert sorted(utility.list_collections()) == sorted(live)
    assert product.staged() == []


def test_a_lost_invocation_costs_time_and_not_the_job(product: Product) -> None:
    fill("items", 2_000)
    functions = product.stack.emulator.client("lambda")
    name = product.stack.deployment.functions["create-backup"]
    environment = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    nowhere = environment | {"CREATE_BACKUP_FUNCTION": "nowhere"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": nowhere})
    try:
        backup = product.start_backup("lost")
    finally:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": environment})
    blocked = product.call("POST", "/backups", {"name": "other"})
    assert blocked.expect(409)["code"] == "BACKUP_IN_PROGRESS"

    # A hand-over counts as lost after half a minute; then the sweep resumes the job.
    deadline = time.monotonic() + 90
    resumed: list[str] = []
    while not resumed and time.monotonic() < deadline:
        resumed = [job["backupId"] for job in product.sweep()["resumed"] if job.get("backupId") == backup]
    assert resumed
    product.ended(f"/backups/{backup}", "AVAILABLE")


def test_a_cancelled_backup_leaves_nothing_behind(product: Product) -> None:
    fill_all((f"part_{number}" for number in range(6)), 2_000)
    backup = product.start_backup("unwanted")
    product.call("DELETE", f"/backups/{backup}").expect(202)
    product.ended(f"/backups/{backup}", "CANCELLED")
    assert product.stored("") == {}
    product.backup("unwanted")


def test_a_cancelled_restore_leaves_the_live_data_alone(product: Product) -> None:
    fill("items", 5_000)
    product.backup("good")
    delete(Collection("items"), list(range(1_000)))
    live = rows_of("items")
    restore = product.start_restore(backupName="good")
    product.call("DELETE", f"/restores/{restore}").expect(202)
    product.ended(f"/restores/{restore}", "CANCELLED")
    assert rows_of("items") == live
    assert utility.list_collections() == ["items"]
    assert product.staged() == []
