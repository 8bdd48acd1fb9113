"""A writer that never stops, and backups of what it writes: each is an exact cut through its journal."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pymilvus import Collection, connections

from labels import Labels, columns, create, labels_of
from product import Product
from snapshots import flush_timestamp

WRITERS = 4
KEYS = 10_000_000
"""Of each writer: no two write the same key, so that a journal is in the order of time for each of its keys."""
PHYSICAL = 18
"""A timestamp's bits below its milliseconds."""


@dataclass(frozen=True)
class Entry:
    """One write, with a timestamp of before it took effect and one of after it was acknowledged.

    A write that a flush meets under way may get into a segment that the flush doesn't seal any more, whatever its
    timestamp: a cut has what was acknowledged before it, and nothing that was begun after it.
    """

    earliest: int
    latest: int
    after: dict[int, str | None]
    """The keys written: the label that each has from then on, or none if it is deleted."""


@dataclass
class Writer:
    """Inserts and deletes rows of its own until it is stopped, and keeps a journal.

    No upserts: 2.3.5 itself forgets the deletes of too many of them on a busy machine, so that nothing is left to judge.
    """

    number: int
    database: str
    uri: str
    journal: list[Entry] = field(default_factory=list)
    error: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        alias = f"writer-{self.number}"
        connections.connect(alias, uri=self.uri, db_name=self.database)
        try:
            collection = Collection("busy", using=alias)
            handler = connections._fetch_handler(alias)
            chance = random.Random(self.number)
            once: list[int] = []  # the keys that were written once; none is written more than twice, see `lost`
            newest = self.number * KEYS
            while not stop.is_set():
                label = f"{self.number}.{len(self.journal)}"
                dice = chance.random()
                if dice < 0.7 or len(once) < 1_000:
                    rows = {key: label for key in range(newest, newest + 100)}
                    newest += 100
                    once += rows
                    told = collection.insert(columns(rows)).timestamp
                    self.journal.append(Entry(told, handler.alloc_timestamp(), dict(rows)))
                    continue
                again = set(chance.sample(once, 40))
                once = [key for key in once if key not in again]
                self.delete(collection, again)
        except BaseException as error:  # told by the test
            self.error = error
        finally:
            connections.disconnect(alias)

    def delete(self, collection: Collection, keys: Iterable[int]) -> None:
        """2.3.5 doesn't tell a delete's timestamp: it is between two that are asked for."""
        handler = connections._fetch_handler(collection._using)
        earliest = handler.alloc_timestamp()
        collection.delete(f"id in {list(keys)}")
        self.journal.append(Entry(earliest, handler.alloc_timestamp(), dict.fromkeys(keys)))


def flush_again_and_again(database: str, uri: str, stop: threading.Event) -> None:
    connections.connect("flusher", uri=uri, db_name=database)
    try:
        collection = Collection("busy", using="flusher")
        while not stop.wait(2):
            collection.flush()
    finally:
        connections.disconnect("flusher")


@contextmanager
def writing(product: Product) -> Iterator[list[Writer]]:
    """Writers at work on the collection, and somebody who flushes it now and then."""
    uri = product.stack.milvus.uri
    stop = threading.Event()
    writers = [Writer(number, product.database, uri) for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    threads.append(threading.Thread(target=flush_again_and_again, args=(product.database, uri, stop)))
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for writer in writers:
        if writer.error is not None:
            raise writer.error


def lost(journal: list[Entry], found: Labels) -> set[int]:
    """The keys that aren't in the server itself as they were written last.

    2.3.5 sometimes forgets a delete of the moment of a flush: a few in a hundred thousand, and a few in a thousand on a
    machine that is busy with other things.
    No key is written more than twice, so that one whose delete was forgotten stays as it is, and can be told.
    """
    last: dict[int, str | None] = {}
    for entry in journal:
        last |= entry.after
    return {key for key in last.keys() | found.keys() if found.get(key) != last.get(key)}


def differences(journal: list[Entry], cut: int, found: Labels, forgotten: set[int]) -> list[str]:
    """Where rows aren't those of the journal up to the cut, in words; what the server forgot itself isn't looked at.

    A write that the cut met under way may be in or not, each shard's rows for themselves: so is it in Milvus. So may one
    of the cut's very millisecond, which is as finely as 2.3.5 cuts.
    """
    certain = [entry for entry in journal if entry.latest <= cut]
    either = [entry for entry in journal if entry.latest > cut and entry.earliest >> PHYSICAL <= cut >> PHYSICAL]
    expected: dict[int, set[str | None]] = {}
    written: dict[int, int] = {}
    for entry in certain:
        expected |= {key: {label} for key, label in entry.after.items()}
        written |= dict.fromkeys(entry.after, entry.latest)
    told = []
    for entry in either:
        expected |= {key: expected.get(key, {None}) | {label} for key, label in entry.after.items()}
    for key in sorted((expected.keys() | found.keys()) - forgotten):
        if found.get(key) not in expected.get(key, {None}):
            when = f"written {cut - written[key]} before the cut" if key in written else "not written before the cut"
            told.append(f"{key} is {found.get(key)}, not one of {expected.get(key)}: {when}")
    return told


def test_three_backups_while_rows_are_written(product: Product) -> None:
    create("busy", num_shards=2)
    with writing(product) as writers:
        backups = [product.backup(f"busy-{number}") for number in range(3)]
    journal = [entry for writer in writers for entry in writer.journal]
    began, ended = (bound(entry.latest for entry in journal) >> PHYSICAL for bound in (min, max))
    rows = sum(len(entry.after) for entry in journal)
    [live] = labels_of(["busy"]).values()
    # Some of what the server forgets it still has in memory: what it finds in its own storage is what counts too.
    Collection("busy").release()
    [stored] = labels_of(["busy"]).values()
    forgotten = lost(journal, live) | lost(journal, stored)
    in_memory = len(forgotten - lost(journal, live))
    print(f"{len(journal)} writes of {rows} rows in {(ended - began) / 1000:.1f} s; the server forgot {len(forgotten)}, {in_memory} of them not in memory")
    assert len(forgotten) * 100 < rows, "so many that hardly anything is left to judge"

    for number, backup in enumerate(backups):
        place = f"{product.database}.then_{number}"
        product.restore(backupId=backup["backupId"], rename={f"{product.database}.busy": place}, mode="CREATE")
        cut = flush_timestamp(product, backup["backupId"], "busy")
        assert any(entry.latest <= cut for entry in journal) and any(entry.earliest > cut for entry in journal)
        [found] = labels_of([f"then_{number}"]).values()
        wrong = differences(journal, cut, found, forgotten)
        assert not wrong, "\n".join([f"backup {number}: {len(wrong)} differences in {len(found)} rows", *wrong[:20]])
