"""Names after a restore and a rollback: the targets of aliases, and names and keys that a server barely supports."""

from __future__ import annotations

from typing import Any

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, db, utility
from pymilvus.grpc_gen import milvus_pb2

from interceptor import milvus_proxy
from labels import INDEX, columns, create_with, labelled, labels_of
from product import Product
from rows import fill, rows_of

SAVED = {"a": labelled("a", range(100)), "b": labelled("b", range(150))}
SINCE = {"a": labelled("a-since", range(200, 210)), "b": labelled("b-since", range(200, 220))}
LIVE = {name: SAVED[name] | SINCE[name] for name in SAVED} | {"other": labelled("other", range(7))}

AT_THE_BACKUP = {"a_to_b": "a", "b_to_a": "b", "a_to_other": "a", "dropped": "b"}
SINCE_THE_BACKUP = {"since_to_b": "a", "since_dropped": "a"}
BEFORE_THE_SWAP = {"a_to_b": "b", "b_to_a": "a", "a_to_other": "other", "since_to_b": "b", "made": "a"}
"""The aliases and their targets right before the swap."""
ROLLED_BACK = BEFORE_THE_SWAP | {"late": "b"}
# The backup's aliases have the backup's targets. The others keep the names that they have right before the swap.
RESTORED = AT_THE_BACKUP | {"since_to_b": "b", "made": "a", "late": "b"}
ALIASES = sorted(ROLLED_BACK | RESTORED | SINCE_THE_BACKUP)


def standing(database: str) -> dict[str, str]:
    """The target of each existing alias, from the Milvus component that stores them."""
    stub = connections._fetch_handler("default")._stub
    asked = (milvus_pb2.DescribeAliasRequest(db_name=database, alias=alias) for alias in ALIASES)
    return {request.alias: answer.collection for request in asked if (answer := stub.DescribeAlias(request)).collection}


def test_aliases_that_move_during_a_restore_and_a_rollback_have_their_place(product: Product) -> None:
    here = product.database
    for name, rows in SAVED.items():
        create_with(name, rows)
    for alias, name in AT_THE_BACKUP.items():
        utility.create_alias(name, alias)
    assert labels_of(SAVED) == SAVED  # loaded for it: a restore loads them before it swaps them
    product.backup("before")
    for name, rows in SINCE.items():
        Collection(name).insert(columns(rows))
    create_with("other", LIVE["other"])
    for alias, name in SINCE_THE_BACKUP.items():
        utility.create_alias(name, alias)
    assert labels_of(LIVE) == LIVE

    found: dict[str, dict[str, str]] = {}

    def importing() -> None:
        utility.alter_alias("b", "a_to_b")
        utility.alter_alias("other", "a_to_other")
        utility.drop_alias("since_dropped")
        utility.create_alias("a", "made")

    def verifying() -> None:
        utility.alter_alias("a", "b_to_a")
        utility.alter_alias("b", "since_to_b")
        utility.drop_alias("dropped")

    def swapping() -> None:
        found["before the swap"] = standing(here)

    def renaming_b() -> None:
        utility.create_alias("b", "late")

    with milvus_proxy(product.stack.milvus.uri) as proxy:
        product.register(endpoint=proxy.uri)

        def once(act: Any, method: str, **fields: str) -> Any:
            def holds(called: str, asked: Any) -> bool:
                return called == method and all(getattr(asked, field) == value for field, value in fields.items())

            return proxy.before.once(holds, act)

        moments = [
            once(importing, "Import"),
            once(verifying, "LoadCollection"),
            once(swapping, "RenameCollection"),
            once(renaming_b, "RenameCollection", oldName="b"),
        ]
        restore = product.restore(backupName="before")
        for moment in moments:
            moment.verify()
        assert found["before the swap"] == BEFORE_THE_SWAP

        assert standing(here) == RESTORED
        assert labels_of(RESTORED) == {alias: SAVED[name] for alias, name in RESTORED.items()}
        assert labels_of(LIVE) == LIVE | SAVED
        taken = {alias: (BEFORE_THE_SWAP[alias], RESTORED[alias]) for alias in ("a_to_b", "b_to_a", "a_to_other")}
        told = {f"alias {here}.{alias} pointed to {here}.{old} and now points to {here}.{new}" for alias, (old, new) in taken.items()}
        assert told <= set(restore["warnings"]), restore["warnings"]

        product.call("POST", f"/restores/{restore['restoreId']}/rollback").expect(202)
        product.ended(f"/restores/{restore['restoreId']}", "ROLLED_BACK")
    assert standing(here) == ROLLED_BACK
    assert labels_of(ROLLED_BACK) == {alias: LIVE[name] for alias, name in ROLLED_BACK.items()}
    assert labels_of(LIVE) == LIVE


def test_a_name_that_an_alias_of_a_dropped_collection_has_is_whole_again(product: Product) -> None:
    here = product.database
    fill("items", 500)
    fill("orders", 500, seed=2)
    utility.create_alias("items", "current")
    then = {name: rows_of(name) for name in ("items", "orders")}
    product.backup("before")
    for name in ("items", "orders"):
        utility.drop_collection(name)
    # Both names are now dangling aliases: no collection has one, and the collection with the other can't be found.
    for name in ("items", "orders"):
        fill("old", 10)
        utility.create_alias("old", name)
        utility.drop_collection("old")
    Collection("made", CollectionSchema([FieldSchema("id", DataType.INT64, is_primary=True),
                                         FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8)]))  # fmt: skip
    utility.rename_collection("made", "orders")

    restore = product.restore(backupName="before")
    assert {name: rows_of(name) for name in ("items", "orders")} == then
    assert rows_of("current") == then["items"]
    hidden = sorted(warning for warning in restore["warnings"] if "an alias of that name" in warning)
    assert [warning.split(" ")[0] for warning in hidden] == [f"{here}.items", f"{here}.orders"]


WORDS = ("in", "LIKE", "exists", "not", "and", "or", "True", "FALSE", "json_contains", "ARRAY_LENGTH")
"""Keywords, in a case that 2.3.5 recognises, of the expression language: key fields of these names can't be queried."""
NUMBERS = [-(2**63), -(2**63) + 1, -1, 0, 1, 2**63 - 2, 2**63 - 1]
TEXTS = ["", " ", "\0", "null", "ü'%\\\"\n\t_", "🙂", "long" * 16_383 + "est"]
"""The longest text has 65,535 bytes, the maximum for a field."""


def test_keys_and_names_that_no_expression_can_have_lose_no_restore(product: Product) -> None:
    number, text = DataType.INT64, DataType.VARCHAR
    # By collection: the key field and its type, another field, and the keys.
    kinds = {f"key_{word}": (word, number, other, NUMBERS) for word, other in zip(WORDS, (*WORDS[1:], WORDS[0]), strict=True)}
    kinds |= {"numbers": ("id", number, "label", NUMBERS), "texts": ("id", text, "label", TEXTS)}

    def keys_of(name: str) -> list[Any]:
        """The keys that a search finds. Queries of 2.3.5 lose the row with the greatest possible number."""
        collection = Collection(name)
        found = collection.search([[0.0] * 8], "vector", {"metric_type": "L2"}, 100, consistency_level="Strong")
        return sorted(found[0].ids)

    for name, (field, kind, other, keys) in kinds.items():
        length = {"max_length": 65_535} if kind is text else {}
        collection = Collection(name, CollectionSchema([FieldSchema(field, kind, is_primary=True, **length),
                                                        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=8),
                                                        FieldSchema(other, number)]), num_shards=1)  # fmt: skip
        collection.insert([keys, [[place / 7] * 8 for place in range(len(keys))], [*range(len(keys))]])
        collection.create_index("vector", INDEX)
        collection.load(_async=True)
    for name in kinds:
        utility.wait_for_loading_complete(name, timeout=120)
    backup = product.backup("odd")
    assert backup["entityCount"] == sum(len(keys) for *_, keys in kinds.values())
    for name, (_, kind, _, keys) in kinds.items():
        Collection(name).insert([[7 if kind is number else "7"], [[0.5] * 8], [7]])
        assert len(keys_of(name)) == len(keys) + 1
    restore = product.restore(backupName="odd")
    told = "its rows were counted, but its primary keys cannot be queried"
    assert sorted(restore["warnings"]) == sorted(f"{product.database}.key_{word}: {told}" for word in WORDS)
    assert {name: keys_of(name) for name in kinds} == {name: sorted(keys) for name, (*_, keys) in kinds.items()}


def test_a_database_without_collections_comes_back(product: Product) -> None:
    here = product.database
    empty = f"{here}_empty"
    db.create_database(empty)
    fill("items", 100)
    product.backup("with-it", collections=[f"{here}.*", f"{empty}.*"])
    db.drop_database(empty)
    restore = product.restore(backupName="with-it", rename={f"{here}.items": f"{here}.items_then"})
    assert empty in db.list_database()
    # A collection that is restored under another name is still in the backup, and isn't reported as left alone.
    assert [warning for warning in restore["warnings"] if "left unchanged" in warning] == []
