"""Files that retried writes left behind, and files that can't be explained."""

from __future__ import annotations

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, MilvusException, connections, utility
from pymilvus.grpc_gen import milvus_pb2
from stack.process import poll

from labels import SCHEMA, columns, create, create_with, labelled, labels_of
from product import Product
from test_crashes import restart_milvus

FIELD = 102
"""The field id of the labels: Milvus numbers fields from 100."""
MORE = 24
WIDE = CollectionSchema([*SCHEMA.fields, *(FieldSchema(f"more_{number}", DataType.INT64) for number in range(MORE))])
"""A schema with many fields. Each field is a file, so writing a segment takes long enough to be interrupted."""


class Files:
    """Milvus's own bucket."""

    def __init__(self, product: Product) -> None:
        self._s3 = product.stack.emulator.client("s3")
        self._bucket = product.stack.milvus_bucket

    def logs(self, name: str) -> dict[tuple[str, str, str], dict[int, list[str]]]:
        """The keys of a collection's logs, by collection, partition and segment, then by field."""
        collection = connections._fetch_handler("default").describe_collection(name)["collection_id"]
        found: dict[tuple[str, str, str], dict[int, list[str]]] = {}
        for key in self.keys(f"files/insert_log/{collection}/"):
            _, _, collection, partition, segment, field, _ = key.split("/")
            found.setdefault((collection, partition, segment), {}).setdefault(int(field), []).append(key)
        return found

    def only_segment(self, name: str) -> tuple[str, dict[int, list[str]]]:
        """The id of a collection's only segment, and its logs by field."""
        [((_, _, segment), fields)] = self.logs(name).items()
        return segment, fields

    def keys(self, prefix: str, after: str = "") -> list[str]:
        paginator = self._s3.get_paginator("list_objects_v2")
        pages = paginator.paginate(Bucket=self._bucket, Prefix=prefix, StartAfter=after)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def copy(self, source: str, target: str) -> None:
        self._s3.copy_object(Bucket=self._bucket, Key=target, CopySource={"Bucket": self._bucket, "Key": source})


def beside(key: str) -> str:
    """A log's key with another log id."""
    folder, _, log = key.rpartition("/")
    return f"{folder}/{int(log) + 1_000_000}"


def flush(names: list[str]) -> None:
    """Flushes as soon as the server can, which takes a while after its start."""

    def flushed() -> bool:
        try:
            connections._fetch_handler("default").flush(names, timeout=60)
        except MilvusException:
            return False
        return True

    assert poll(flushed, 120, every=0.5)


def kill_while_flushing(product: Product, names: list[str]) -> None:
    """Kills Milvus while it writes the files of a flush, and starts it again."""
    files, milvus = Files(product), product.stack.milvus
    handler = connections._fetch_handler("default")
    # Each poll needs only one listing: these collections are the newest, and keys are in the order of ids.
    oldest = min(handler.describe_collection(name)["collection_id"] for name in names)
    before = len(files.keys("files/insert_log/", f"files/insert_log/{oldest}"))
    # The answer comes once the segments are sealed; their files are written after that.
    handler._stub.Flush(milvus_pb2.FlushRequest(collection_names=names))
    # After a third of the files, some segments are written in whole or in part, and the server hasn't recorded it yet.
    some = before + len(names) * (MORE + 5) // 3
    begun = poll(lambda: len(files.keys("files/insert_log/", f"files/insert_log/{oldest}")) >= some, 60, every=0.001)
    milvus.kill()
    assert begun, "no file was being written"
    restart_milvus(product)


def test_milvus_killed_while_it_flushes(product: Product) -> None:
    files = Files(product)
    expected = {name: {} for name in (f"part_{number}" for number in range(8))}
    for name in expected:
        create(name, WIDE)

    def twice_written() -> list[str]:
        """Segments in which a field has more than one log, although each was flushed once."""
        return [
            segment
            for name in expected
            for (_, _, segment), fields in files.logs(name).items()
            if any(len(logs) > 1 for logs in fields.values())
        ]

    for attempt in range(5):
        for name, rows in expected.items():
            more = labelled(name, range(200 * attempt, 200 * attempt + 200))
            Collection(name).insert([*columns(more), *[list(more)] * MORE])
            rows |= more
        kill_while_flushing(product, list(expected))
        flush(list(expected))
        if twice_written():
            break
    # Whether the server wrote any segment twice depends on timing. The next test creates such files by hand.
    print(f"{len(twice_written())} segments were written twice after {attempt + 1} kills")

    backup = product.backup("after-the-crash")
    for name in expected:
        utility.drop_collection(name)
    product.restore(backupId=backup["backupId"], keepPreviousHours=0)
    assert labels_of(expected) == expected
    assert (backup["leftOut"], backup["complete"]) == ([], True)


def test_files_that_can_be_explained_and_files_that_cannot(product: Product) -> None:
    files = Files(product)
    names = ("a_whole_one", "copied", "odd", "strange", "z_whole_one")
    expected = {name: create_with(name, labelled(name, range(150 + 10 * place))) for place, name in enumerate(names)}
    flush(list(names))
    for name in names:
        Collection(name).delete(f"id in {list(range(10))}")
        expected[name] = {key: label for key, label in expected[name].items() if key >= 10}
    flush(list(names))

    # As after a retried write: the logs of all fields a second time.
    for logs in files.only_segment("copied")[1].values():
        files.copy(logs[0], beside(logs[0]))
    # A second log of one field, with other values and another number of rows.
    odd, fields = files.only_segment("odd")
    files.copy(files.only_segment("a_whole_one")[1][FIELD][0], beside(fields[FIELD][0]))
    # A log of a field that the schema doesn't have.
    strange, fields = files.only_segment("strange")
    files.copy(fields[FIELD][0], fields[FIELD][0].replace(f"/{FIELD}/", "/777/"))
    told = {
        name: (f"{product.database}.{name}", "_default", segment, field)
        for name, segment, field in (("odd", odd, str(FIELD)), ("strange", strange, "777"))
    }

    started = product.start_backup("of-a-pattern")
    backup = product.ended(f"/backups/{started}", "AVAILABLE", seconds=120)
    left_out = {left["collection"]: left["reason"] for left in backup["leftOut"]}
    assert {left["cause"] for left in backup["leftOut"]} == {"TROUBLE"}
    assert sorted(left_out) == [f"{product.database}.odd", f"{product.database}.strange"]
    for name, words in told.items():
        reason = left_out[f"{product.database}.{name}"]
        assert all(word in reason for word in words), reason
    assert backup["collectionCount"] == 3 and backup["complete"] is False

    for name, words in told.items():
        body = {"collections": [f"{product.database}.{name}", f"{product.database}.a_whole_one"]}
        failed = product.ended(f"/backups/{product.start_backup(f'of-{name}', **body)}", "FAILED", seconds=120)
        message = failed["failure"]["message"]
        assert all(word in message for word in words), message
        assert failed["failure"]["code"] != "INTERNAL"

    for name in names:
        utility.drop_collection(name)
    product.restore(backupId=backup["backupId"], keepPreviousHours=0)
    whole = ["a_whole_one", "copied", "z_whole_one"]
    assert sorted(utility.list_collections()) == whole
    assert labels_of(whole) == {name: expected[name] for name in whole}
