"""One call to the server, repeated until it is answered.

Every call of this package may be repeated: a submit carries an idempotency key, a finish is answered twice alike, and
what was leased to nobody comes back by itself.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any, Callable, Optional, TypeVar
from urllib.parse import urlsplit

from .errors import Problem, Unreachable
from .exact import from_json, to_json

T = TypeVar("T")

#: Told why a try failed, sleeps this many seconds before the next, and says whether there shall be one.
KeepTrying = Callable[[Exception, float], bool]

#: How long a call that waits for nothing may take, in seconds. One that waits for something may take this much longer.
PATIENCE_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
#: A server that asks to be left alone for longer is asked again after this, in seconds.
RETRY_AFTER_MAX_S = 60.0


class Cut(Exception):
    """The call was given up because another thread wanted it so."""


class Wire:
    """Calls over one kept connection. For one thread at a time; only `cut` may come from another."""

    _connection: Optional[http.client.HTTPConnection] = None
    #: When the last request was sent, by `time.monotonic()`: its answer was sent no earlier.
    sent = 0.0

    def __init__(self, server: str, token: Optional[str] = None, ca_file: Optional[str] = None) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(f"not the address of a server: {server!r}")
        self._server, self._prefix = parts, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls: Optional[ssl.SSLContext] = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context()
            if ca_file:
                self._tls.load_verify_locations(cafile=ca_file)
        self._cut = False

    def call(
        self,
        method: str,
        path: str,
        body: Any,
        read: Callable[[Any], T],
        keep_trying: KeepTrying,
        *,
        wait_s: float = 0.0,
        allowance_s: Optional[float] = None,
        headers: Optional[dict[str, str]] = None,
    ) -> T:
        """What `read` makes of the answer. Tries again where there is none, or none that can be read.

        `allowance_s`: how long the answer may take beyond `wait_s`, `PATIENCE_S` without it.

        Raises `Problem` where the server refuses, `Unreachable` or the last `Problem` where `keep_trying` gives up.
        """
        data = None if body is None else to_json(body)
        headers = {**self._headers, **(headers or {}), **({"Content-Type": "application/json"} if data else {})}
        timeout = wait_s + (PATIENCE_S if allowance_s is None else allowance_s)
        for pause in pauses():
            failed: Exception
            try:
                status, retry_after, text = self._exchange_kept(method, path, data, headers, timeout)
                if 200 <= status < 300:
                    return _understand(text, read)
                failed = Problem.read(status, _json_or_none(text))
                pause = max(pause, retry_after)
            except (OSError, http.client.HTTPException) as error:
                if self._cut:
                    raise Cut from None
                failed = Unreachable(f"{self._server.geturl()}: {error or type(error).__name__}")
            except Unreachable as error:
                failed = error
            if _is_final(failed) or not keep_trying(failed, pause):
                raise failed
        raise AssertionError("there is always one more pause")

    def cut(self) -> None:
        """Ends the call under way with `Cut`, and each one that begins before `mend`."""
        self._cut = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already

    def mend(self) -> None:
        """Calls are possible again."""
        self._cut = False

    def close(self) -> None:
        """Closes the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self.close()  # a thread that ends takes its connection along

    def _exchange_kept(
        self, method: str, path: str, data: Optional[bytes], headers: dict[str, str], timeout: float
    ) -> tuple[int, float, bytes]:
        kept = self._connection is not None
        try:
            return self._exchange(method, path, data, headers, timeout)
        except ConnectionError:
            if not kept or self._cut:
                raise
            # Most likely it was closed while it was idle: that is no reason for a pause.
            return self._exchange(method, path, data, headers, timeout)

    def _exchange(
        self, method: str, path: str, data: Optional[bytes], headers: dict[str, str], timeout: float
    ) -> tuple[int, float, bytes]:
        connection = self._connection = self._connection or self._connect()
        self.sent = time.monotonic()
        connection.timeout = timeout
        if connection.sock is not None:
            connection.sock.settimeout(timeout)
        done = False
        try:
            connection.request(method, self._prefix + path, data, headers)
            if self._cut:  # a cut before there was a socket to shut down
                raise ConnectionAbortedError
            response = connection.getresponse()
            text = response.read()
            done = True
        finally:
            if not done:
                self.close()
        after = response.headers.get("Retry-After", "")
        retry_after = min(float(after), RETRY_AFTER_MAX_S) if after.isdecimal() else 0.0
        return response.status, retry_after, text

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._server.hostname, self._server.port
        assert host is not None
        if self._tls is None:
            return http.client.HTTPConnection(host, port)
        return http.client.HTTPSConnection(host, port, context=self._tls)


def _is_final(failed: Exception) -> bool:
    """Whether that is the answer. `behind` is for whoever asked for a position: asking again is up to them."""
    return isinstance(failed, Problem) and (not failed.retryable or failed.code == "behind")


def pauses() -> Iterator[float]:
    """Seconds between tries: twice as long each time up to a bound, and never two callers in step."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, LONGEST_PAUSE_S)


def _understand(text: bytes, read: Callable[[Any], T]) -> T:
    try:
        return read(from_json(text) if text else None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unreachable(f"an answer that is none: {error!r}") from error


def _json_or_none(text: bytes) -> Any:
    """A refusal need not be JSON: a proxy may have made it."""
    try:
        return from_json(text)
    except (ValueError, RecursionError):
        return None
