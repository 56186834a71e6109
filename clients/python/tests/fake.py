"""A server that answers as a test wants, malformed answers included, and records the requests."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Optional

LEASES, BEAT, ACK, FINISH = "/v1/leases", "/v1/leases/heartbeat", "/v1/leases/cancel-ack", "/v1/leases/finish"


def lease(number: int, kind: str = "test", input: Any = None) -> dict[str, Any]:
    task = {"lease": f"task-{number}.1.secret", "task_id": f"task-{number}", "kind": kind, "input": input, "attempt": 1}
    time = {"deadline": "2026-01-01T00:00:00Z", "left_ms": 30_000}
    return {**task, **time, "title": kind, "owner": "anna", "labels": {}}


class FakeServer:
    """Grants `to_lease`, sends `directives`, records requests in `asked`, and their bodies as sent in `texts`. `instead[path]` holds answers that come before
    all that: `(status, headers, body)`, or None to close the connection."""

    def __init__(self) -> None:
        self.to_lease: list[dict[str, Any]] = []
        self.directives: dict[str, str] = {}
        self.asked: list[tuple[str, Any]] = []
        self.texts: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.instead: dict[str, list[Optional[tuple[int, dict[str, str], bytes]]]] = defaultdict(list)
        self.changed = threading.Condition()
        self._over = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = _read(text)
                path = self.path.split("?")[0]
                with fake.changed:
                    fake.asked.append((self.path, body))
                    fake.texts.append(text)
                    fake.headers.append(dict(self.headers.items()))
                    fake.changed.notify_all()
                    instead = fake.instead[path].pop(0) if fake.instead[path] else ()
                if instead is None:
                    self.close_connection = True
                    return
                status, headers, answer = instead or fake.answer(path, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                pass  # tests close connections on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def hurry(self) -> None:
        """Ends all long polls, now and from now on."""
        with self.changed:
            self._over = True
            self.changed.notify_all()

    def close(self) -> None:
        self.hurry()
        self._server.shutdown()
        self._server.server_close()

    def of(self, path: str) -> list[Any]:
        """The bodies of the requests to this path."""
        with self.changed:
            return [body for asked, body in self.asked if asked == path]

    def ends(self) -> list[dict[str, Any]]:
        return [item for body in self.of(FINISH) for item in body["items"]]

    def direct(self, number: int, directive: str) -> None:
        with self.changed:
            self.directives[lease(number)["lease"]] = directive
            self.changed.notify_all()

    def until(self, holds: Any, timeout: float = 10.0) -> None:
        with self.changed:
            assert self.changed.wait_for(holds, timeout), f"timed out; the requests were {self.asked}"

    def answer(self, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        if path == LEASES:
            self._park(lambda: bool(self.to_lease), body["wait_s"])
            with self.changed:
                given, self.to_lease = self.to_lease[: body["max"]], self.to_lease[body["max"] :]
            return ok({"leases": given, "position": 1})
        if path == BEAT:
            self._park(lambda: bool(self._due(body)), body["wait_s"])
            return ok({"directives": self._due(body), "deadline": None, "left_ms": 30_000})
        if path == ACK:
            return 204, {}, b""
        assert path == FINISH, path
        return ok({"items": [{"status": item["outcome"]} for item in body["items"]], "position": 2})

    def _due(self, body: Any) -> list[dict[str, str]]:
        due = ((item["lease"], self.directives.get(item["lease"]), item.get("seen")) for item in body["leases"])
        return [{"lease": held, "directive": said} for held, said, seen in due if said and said != seen]

    def _park(self, holds: Any, wait_s: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self._over or holds(), wait_s)


def _read(text: bytes) -> Any:
    """Integers that are too long for `int` stay texts."""
    return json.loads(text or b"null", parse_int=lambda digits: int(digits) if len(digits) < 1000 else digits)


def ok(body: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def problem(status: int, code: str, retryable: bool = False, **headers: str) -> tuple[int, dict[str, str], bytes]:
    said = {"status": status, "code": code, "detail": f"it is {code}", "retryable": retryable, "errors": []}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(said).encode()
