"""Show one file to a browser on this host, or at the end of an SSH tunnel: over HTTP, on the loopback address alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.errors import RunError


@contextmanager
def served(page: Path, port: int) -> Iterator[str]:
    """Serve a file while the block runs.

    Other users of this host reach its loopback address, too: the path of the page holds a secret.

    Args:
        page: read anew for each request; nothing else is served.
        port: on 127.0.0.1; 0: any that is free.

    Yields:
        The page's address.

    Raises:
        RunError: the port is taken.
    """
    path = f"/{secrets.token_urlsafe(12)}/"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                content = page.read_bytes() if secrets.compare_digest(self.path, path) else None
            except OSError:
                content = None
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: Any) -> None:
            """Say nothing: the address has a secret in it."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise RunError(f"Port {port} cannot be used ({error.strerror}). Name another one with --port.") from None
    thread = Thread(target=server.serve_forever, name="live page", daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}{path}"
    finally:
        server.shutdown()
        server.server_close()
