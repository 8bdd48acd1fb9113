"""A client of the deployed HTTP API, which signs every request for IAM authorisation."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


@dataclass(frozen=True)
class Answer:
    """An answer of the API. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    def expect(self, *statuses: int) -> Any:
        """The JSON of the answer. If its status is none of these, an error shows the answer."""
        if self.status not in statuses:
            raise AssertionError(f"expected {statuses}, got {self.status}: {self.body.decode(errors='replace')}")
        return self.json


@dataclass(frozen=True)
class Api:
    """The deployed API. The emulator identifies its APIs by `host`."""

    url: str
    host: str
    region: str
    access_key_id: str
    secret_access_key: str

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        sign: bool = True,
        timeout: float = 60,
    ) -> Answer:
        """Sends a request. `path` must be escaped. A `bytes` or `str` body is sent raw, any other as JSON."""
        data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else None
        if data is None:
            data = b"" if body is None else json.dumps(body).encode()
        if query:
            path += "?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        request = AWSRequest(method, self.url + path, {"host": self.host, **(headers or {})}, data)
        if data and "content-type" not in {name.lower() for name in request.headers}:
            request.headers["content-type"] = "application/json"
        if sign:
            credentials = Credentials(self.access_key_id, self.secret_access_key)
            SigV4Auth(credentials, "execute-api", self.region).add_auth(request)
        address = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)
        try:
            connection.request(method, path, data, dict(request.headers.items()))
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self.call("GET", path, **options)

    def put(self, path: str, body: Any, **options: Any) -> Answer:
        return self.call("PUT", path, body, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self.call("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self.call("DELETE", path, **options)
