"""Functions started outside the emulator, which gives its own address to the functions that it starts."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from stack.process import ProcessId, spawn

from product import Product

SECONDS = 900


def invoke_by_hand(product: Product, function: str, event: Any, environment: Mapping[str, str]) -> Any:
    """Invokes a function once, with its deployed settings and `environment`, and returns its answer."""
    events: queue.Queue[bytes] = queue.Queue()
    answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
    events.put(json.dumps(event).encode())

    class Runtime(BaseHTTPRequestHandler):
        """Lambda's interface for runtimes, with one invocation."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802, the name is the base class's
            body = events.get()  # there is no second event: the function waits until it is stopped
            self.send_response_only(200)
            for name, value in {
                "lambda-runtime-aws-request-id": "by-hand",
                "lambda-runtime-deadline-ms": str(int((time.time() + SECONDS) * 1000)),
                "lambda-runtime-invoked-function-arn": f"arn:aws:lambda:{REGION}:000000000000:function:{name_of}",
                "content-length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:  # noqa: N802
            answers.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response_only(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    name_of = product.deployment.functions[function]
    settings = product.stack.emulator.client("lambda").get_function_configuration(FunctionName=name_of)
    runtime = ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    runtime.daemon_threads = True
    threading.Thread(target=runtime.serve_forever, daemon=True).start()
    process = spawn(
        [product.stack.binaries[function]],
        env={
            **settings["Environment"]["Variables"],
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server_address[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": name_of,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_LOG_GROUP_NAME": "by-hand",
            "AWS_LAMBDA_LOG_STREAM_NAME": "by-hand",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_ENDPOINT_URL": product.stack.emulator.endpoint_url,
            **environment,
        },
        cwd=product.stack.directory,
        log=product.stack.directory / f"{function}-by-hand.log",
        dies_with_us=True,
    )
    try:
        path, body = answers.get(timeout=SECONDS)
    finally:
        ProcessId.of(process.pid).stop(grace=0)
        process.wait(10)
        runtime.shutdown()
        runtime.server_close()
    assert path.endswith("/response"), body.decode(errors="replace")
    return json.loads(body)
