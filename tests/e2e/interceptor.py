"""Proxies between the product and its servers, which forward everything and let a test act at exact moments.

A backup reads from Milvus over gRPC and copies over S3's HTTP. With a proxy on these calls, a test can change a
collection between the survey and its flush, or between its flush and the copy.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message_factory import GetMessageClass
from pymilvus.grpc_gen import milvus_pb2
from pymilvus.grpc_gen.common_pb2 import SegmentState

SERVICE = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Moment:
    """An action that is done once, at the first call for which `when` holds."""

    when: Callable[..., bool]
    act: Callable[[], object]
    reached: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None

    def verify(self) -> None:
        """Requires that the moment came and that its action succeeded."""
        assert self.reached.is_set(), "the call that the test waited for never came"
        if self.error is not None:
            raise self.error


class Moments:
    """The moments that a test waits for. No call is forwarded while the test acts."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._moments: list[Moment] = []

    def once(self, when: Callable[..., bool], act: Callable[[], object]) -> Moment:
        moment = Moment(when, act)
        with self._lock:
            self._moments.append(moment)
        return moment

    def pass_by(self, *call: Any) -> None:
        with self._lock:
            for moment in [moment for moment in self._moments if moment.when(*call)]:
                self._moments.remove(moment)
                try:
                    moment.act()
                except BaseException as error:  # raised in the test, by `verify`
                    moment.error = error
                moment.reached.set()


@dataclass
class MilvusProxy:
    """A forwarded Milvus gRPC service. Its moments get the method, the request and, after the call, the answer."""

    before: Moments = field(default_factory=Moments)
    """Moments with `when(method, request)`, before the call is forwarded."""
    after: Moments = field(default_factory=Moments)
    """Moments with `when(method, request, answer)`, before the answer is forwarded."""
    calls: list[str] = field(default_factory=list)
    """The methods called so far, in order, each with the collection that it named."""
    uri: str = ""

    def once_before(self, method: str, names: Iterable[str], act: Callable[[], object]) -> Moment:
        """Acts before the first call of a method that names one of these collections."""
        return self.before.once(lambda called, asked: called == method and not {*names}.isdisjoint(named(asked)), act)

    def once_flushed(self, names: Iterable[str], act: Callable[[], object]) -> Moment:
        """Acts when the server has reported each collection's flush as done, before the last report is forwarded."""
        pending = set(names)

        def flushed(method: str, asked: Any, answer: Any) -> bool:
            if method == "GetFlushState" and answer.flushed:
                pending.difference_update(named(asked))
                return not pending
            return False

        return self.after.once(flushed, act)

    def once_listed(self, names: Iterable[str], act: Callable[[], object]) -> Moment:
        """Acts when, after a flush of each collection, its segments were listed and all were flushed."""
        pending = set(names)
        over: set[str] = set()

        def listed(method: str, asked: Any, answer: Any) -> bool:
            if method == "GetFlushState" and answer.flushed:
                over.update(named(asked))
            if method == "GetPersistentSegmentInfo":
                states = {info.state for info in answer.infos}
                if states == {SegmentState.Flushed}:
                    pending.difference_update(over.intersection(named(asked)))
                    return not pending
            return False

        return self.after.once(listed, act)


def named(request: Any) -> tuple[str, ...]:
    """The collections that a request names."""
    names = tuple(getattr(request, "collection_names", ()))
    return names or tuple(
        name for name in (getattr(request, "collection_name", ""), getattr(request, "collectionName", "")) if name
    )


@contextmanager
def milvus_proxy(uri: str) -> Iterator[MilvusProxy]:
    """A proxy of the Milvus server at `uri`, on a separate loopback port."""
    proxy = MilvusProxy()
    channel = grpc.insecure_channel(urlsplit(uri).netloc, options=OPTIONS)

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            path = details.method
            method = path.rpartition("/")[2]
            described = SERVICE.methods_by_name.get(method) if path.startswith(f"/{SERVICE.full_name}/") else None
            # As bytes, so that a message is forwarded unchanged, with fields that this side doesn't know.
            call = channel.unary_unary(path)

            def decoded(kind: str, data: bytes) -> Any:
                if described is None:
                    return None
                return GetMessageClass(getattr(described, kind)).FromString(data)

            def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
                asked = decoded("input_type", request)
                proxy.calls.append(" ".join((method, *named(asked))))
                proxy.before.pass_by(method, asked)
                metadata = [(k, v) for k, v in context.invocation_metadata() if k not in ("user-agent", "te")]
                try:
                    answer = call(request, metadata=metadata)
                except grpc.RpcError as error:
                    context.set_trailing_metadata(error.trailing_metadata() or ())
                    context.abort(error.code(), error.details() or "")
                proxy.after.pass_by(method, asked, decoded("output_type", answer))
                return answer

            return grpc.unary_unary_rpc_method_handler(pass_on)

    with ThreadPoolExecutor(64) as threads:
        server = grpc.server(threads, options=OPTIONS)
        server.add_generic_rpc_handlers((Handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        proxy.uri = f"http://127.0.0.1:{port}"
        server.start()
        try:
            yield proxy
        finally:
            server.stop(None).wait()
            channel.close()


@dataclass
class StorageProxy:
    """The forwarded HTTP of S3 and the other services. Its moments get a request's method, path and headers."""

    before: Moments = field(default_factory=Moments)
    uri: str = ""

    def once_before_a_copy(self, act: Callable[[], object]) -> Moment:
        """Acts before the first object is copied."""
        return self.before.once(lambda _method, _path, headers: "x-amz-copy-source" in headers, act)


@contextmanager
def storage_proxy(uri: str) -> Iterator[StorageProxy]:
    """A proxy of the AWS emulator at `uri`, on a separate loopback port."""
    proxy = StorageProxy()
    address = urlsplit(uri).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            proxy.before.pass_by(self.command, self.path, self.headers)
            connection = http.client.HTTPConnection(address, timeout=900)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("connection", "expect"):
                        connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                data = answer.read()
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("content-length") if self.command == "HEAD" else str(len(data))
                if answer.status not in (204, 304):
                    self.send_header("content-length", length or "0")
                self.end_headers()
                self.wfile.write(data)
            finally:
                connection.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815, the names are the base class's

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
