"""An HTTP server on this machine that serves one file, and can break off or refuse."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.data`; breaks off once after `server.break_at` bytes."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range"))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if server.ranges and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.data) - start))
        self.end_headers()
        end = server.break_at or len(server.data)
        server.break_at = None
        self.wfile.write(server.data[start:end])

    def log_message(self, *_):
        pass


@contextmanager
def serving(data: bytes) -> Iterator[http.server.ThreadingHTTPServer]:
    """Yields a running server; `url` is its address, `requests` the requested ranges."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.data, running.break_at, running.ranges = data, None, True
        running.status, running.requests = 200, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
