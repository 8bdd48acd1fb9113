"""Backups during continuous writes: each has exactly the rows of the writers' journals at its point in time."""

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
"""The keys of each writer. No two writers share a key, so each journal has the writes of its keys in their order."""
PHYSICAL = 18
"""The number of bits below the milliseconds in a timestamp."""


@dataclass(frozen=True)
class Entry:
    """One write, with a timestamp from before it took effect and one from after it was acknowledged.

    A write during a flush may go into a segment that the flush doesn't seal, whatever its timestamp. So a backup has
    every write that was acknowledged before the flush, and none that began after it.
    """

    earliest: int
    latest: int
    after: dict[int, str | None]
    """The written keys with their new labels, or `None` for a deleted key."""


@dataclass
class Writer:
    """Inserts and deletes its own rows until it is stopped, and keeps a journal.

    It makes no upserts, because 2.3.5 itself forgets so many of their deletes on a busy machine that too few rows can
    be compared.
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
            once: list[int] = []  # keys that were written once; no key is written more than twice, see `lost`
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
        except BaseException as error:  # raised by the test
            self.error = error
        finally:
            connections.disconnect(alias)

    def delete(self, collection: Collection, keys: Iterable[int]) -> None:
        """Deletes keys. 2.3.5 doesn't report a delete's timestamp, so one is requested before it and one after it."""
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
    """Runs writers on the collection, and a thread that flushes it from time to time."""
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
    """The keys that the server itself doesn't have as they were last written.

    2.3.5 sometimes forgets a delete that happens during a flush: a few in a hundred thousand, and a few in a thousand
    on a busy machine. No key is written more than twice, so a key whose delete was forgotten stays recognisable.
    """
    last: dict[int, str | None] = {}
    for entry in journal:
        last |= entry.after
    return {key for key in last.keys() | found.keys() if found.get(key) != last.get(key)}


def differences(journal: list[Entry], cut: int, found: Labels, forgotten: set[int]) -> list[str]:
    """Messages about rows that differ from the journal up to the cut, except for keys that the server itself forgot.

    A write in progress at the cut may be in the backup or not, separately on each shard, as in Milvus. The same holds
    for a write in the same millisecond as the cut, because 2.3.5 cuts by milliseconds.
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
    # The server still has some of the forgotten deletes in memory, so the rows in its storage are also compared.
    Collection("busy").release()
    [stored] = labels_of(["busy"]).values()
    forgotten = lost(journal, live) | lost(journal, stored)
    in_memory = len(forgotten - lost(journal, live))
    print(f"{len(journal)} writes of {rows} rows in {(ended - began) / 1000:.1f} s; the server forgot {len(forgotten)}, {in_memory} of them not in memory")
    assert len(forgotten) * 100 < rows, "too many to compare the rest"

    for number, backup in enumerate(backups):
        place = f"{product.database}.then_{number}"
        product.restore(backupId=backup["backupId"], rename={f"{product.database}.busy": place}, mode="CREATE")
        cut = flush_timestamp(product, backup["backupId"], "busy")
        assert any(entry.latest <= cut for entry in journal) and any(entry.earliest > cut for entry in journal)
        [found] = labels_of([f"then_{number}"]).values()
        wrong = differences(journal, cut, found, forgotten)
        assert not wrong, "\n".join([f"backup {number}: {len(wrong)} differences in {len(found)} rows", *wrong[:20]])
