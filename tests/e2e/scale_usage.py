"""One hour of 100,000 backups metered in one invocation: part of `make scale`, because it takes long for `make test`.

The deployed function reaches DynamoDB through a proxy that counts requests. The proxy inspects transactions but doesn't
forward them, because the emulator takes tens of milliseconds for each when its table is large. Other tests check that
transactions take effect, and only once.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack.deploy import deploy

from product import PRICES, Product
from rows import fill

BACKUPS = int(os.environ.get("SCALE_BACKUPS", "100000"))
MEGABYTE = 1 << 20
MEMORY = 256 * MEGABYTE


@contextmanager
def counting(endpoint_url: str) -> Iterator[tuple[str, Counter[str], set[str], threading.Event]]:
    """A proxy in front of the emulator: its address, the number of requests per operation, the keys of the records in
    transactions that it kept, and an event that makes it keep transactions instead of forwarding them."""
    counts: Counter[str] = Counter()
    records: set[str] = set()
    is_cut = threading.Event()
    target = urllib.parse.urlsplit(endpoint_url)
    local = threading.local()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            operation = self.headers["x-amz-target"].rpartition(".")[2]
            counts[operation] += 1
            if is_cut.is_set() and operation == "TransactWriteItems":
                return self.keep(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            local.connection.request("POST", self.path, body, headers)
            answer = local.connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def keep(self, request: Any) -> None:
            account, *of_account = (item["Put"] for item in request["TransactItems"])
            for record in of_account:  # a transaction that records the first day to write to a file has no records
                assert account["Item"]["PK"]["S"].startswith("ACCOUNT#") and account["ConditionExpression"]
                assert record["ConditionExpression"] == "attribute_not_exists(PK)"
                assert record["Item"]["SK"]["S"].endswith(account["Item"]["SK"]["S"])
                records.add(record["Item"]["SK"]["S"])
            self.send_response(200)
            self.send_header("content-type", "application/x-amz-json-1.0")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # the function gave up a request, and repeats it
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", counts, records, is_cut
    finally:
        server.shutdown()
        server.server_close()


def fill_accounts(product: Product, like: dict[str, Any]) -> None:
    """Writes `BACKUPS` - 1 copies of an account, for backups whose ids sort after its own."""
    dynamodb, table = product.stack.emulator.client("dynamodb"), product.deployment.catalog_table
    instance, _, backup = like["SK"]["S"].partition("#")
    batch = []
    for number in range(1, BACKUPS):
        made = f"{backup[:-6]}{number:06}"
        item = dict(like, SK={"S": f"{instance}#{made}"})
        item["record"] = {"M": dict(like["record"]["M"], backupId={"S": made})}
        batch.append({"PutRequest": {"Item": item}})
        if len(batch) == 25 or number == BACKUPS - 1:
            dynamodb.batch_write_item(RequestItems={table: batch})
            batch = []


def test_an_hour_of_many_backups_is_metered_in_flat_memory_at_a_request_each(product: Product) -> None:
    stack = product.stack
    with counting(stack.emulator.endpoint_url) as (address, counts, records, is_cut):
        deployment = deploy(
            stack.emulator,
            stack.binaries,
            name="milvault-many",
            parameters={"Prices": json.dumps(PRICES)},
            environment={"AWS_ENDPOINT_URL_DYNAMODB": address},
        )
        many = replace(product, deployment=deployment)
        many.register()
        fill("items", 1_000)
        many.backup("one")
        many.invoke("usage", {"action": "meter"})  # the very first run looks for the day on which usage begins
        dynamodb = stack.emulator.client("dynamodb")
        [account] = dynamodb.query(
            TableName=deployment.catalog_table,
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": f"ACCOUNT#{deployment.api.region}"}},
        )["Items"]
        fill_accounts(many, account)

        # Just one hour is over, and all of its commits have arrived.
        now = datetime.now(timezone.utc)
        over = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1, minutes=6)
        stack.set_clock_ahead(deployment.functions["usage"], over - now)
        is_cut.set()
        counts.clear()
        began = time.monotonic()
        [report] = many.invoke("usage", {"action": "meter"})["regions"]
        seconds = time.monotonic() - began
    peak, requests = many.peak_memory("usage"), sum(counts.values())
    print(f"{report['records']:,} records in {seconds:.0f} s, {requests:,} requests {dict(counts)}, "
          f"peak memory {peak / MEGABYTE:.1f} MB")  # fmt: skip
    assert report["isWhole"] and report["records"] == report["accounts"] == BACKUPS == len(records)
    assert requests <= BACKUPS * 1.05 + 20
    assert 0 < peak <= MEMORY
