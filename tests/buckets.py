"""An empty bucket that can be read or listed, by the S3 API: what is not granted is answered with 403, as by AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, Literal

import pytest

Granted = Literal["read", "list"]
NO_KEYS: Final = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"
DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextmanager
def bucket_granting(*granted: Granted) -> Iterator[str]:
    """The URL of the bucket, with the environment for it. HEAD needs `read`, and says 404 only with `list`, too."""

    class Bucket(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "list-type=2" not in self.path:
                self._missing()
            elif "list" in granted:
                self._answer(200, NO_KEYS)
            else:
                self._answer(403, DENIED)

        def do_HEAD(self) -> None:
            self._missing()

        def _missing(self) -> None:
            self._answer(404 if {"read", "list"} <= {*granted} else 403, DENIED)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server, pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }.items():
            environment.setenv(name, value)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield "s3://bucket/outputs"
        finally:
            server.shutdown()
            thread.join()
