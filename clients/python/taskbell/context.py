"""One attempt, as its handler sees it: the input, progress, the request to cancel, named steps; and how it may end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Optional

#: A message or a step's name, and the code of a failure, in bytes of UTF-8.
TEXT_MAX, CODE_MAX = 1024, 64
#: A handler that never looks acknowledges so many steps at most: each is an event in the task's history.
ACKS_MAX = 100


@dataclass(frozen=True)
class Done:
    """The work is done: a line for people, and what it gave (JSON, at most 256 KiB)."""

    message: Optional[str] = None
    result: Any = None


class Failure(Exception):
    """The work can't be done: a stable code in snake_case, a line for people, and whether another attempt may help."""

    def __init__(self, code: str, message: str, *, retryable: bool = True) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class Stop(BaseException):
    """Base of what a handler is stopped with. No `Exception`, so that `except Exception` doesn't swallow a stop."""


class Cancelled(Stop):
    """The handler stopped because it was asked to; it may say what was done and what was not."""

    def __init__(self, message: Optional[str] = None, result: Any = None) -> None:
        super().__init__(message or "cancelled")
        self.message = message
        self.result = result


class Interrupted(Cancelled):
    """The same after an interrupt: stop now, clean up only what must be."""


class LeaseLost(Stop):
    """The lease has ended, and another worker may hold the task. Stop; nothing will be reported."""


class Released(Stop):
    """Raised by a handler that hands its task back, for another worker to begin anew; it counts as no attempt."""


@dataclass(frozen=True)
class Lease:
    """The right to one attempt, as the server gave it."""

    lease: str
    task_id: str
    kind: str
    input: Any
    attempt: int
    title: str
    owner: str
    labels: dict[str, str]


@dataclass
class Step:
    """A named step that can't be interrupted, while it runs."""

    name: str
    expected_end: Optional[str]


@dataclass(eq=False)
class Context:
    """A handler's access to its attempt. May be used from any thread.

    Names that begin with an underscore are for the worker, which is called through `_acknowledge` and `_has_progress`.
    """

    _lease: Lease
    #: Sends `{stopping_after, expected_end}` to the server. It must not wait.
    _acknowledge: Callable[[Context, dict[str, Any]], None]
    #: There is progress to be sent, where there was none. It must not wait.
    _has_progress: Callable[[Context], None]
    #: Called before a check for a cancel is answered.
    _before_check: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    #: When the lease ends, by `time.monotonic()`; infinite for a server that doesn't say.
    _deadline: float = math.inf
    #: It is to stop, for whatever reason.
    _stop: threading.Event = field(default_factory=threading.Event)
    #: The last directive, named in the next heartbeat, so that it isn't repeated.
    _seen: Optional[str] = None
    _cancel_requested: bool = False
    _interrupted: bool = False
    _lost: bool = False
    _draining: bool = False
    #: The handler has ended; the server may not know it yet.
    _ended: bool = False
    _observed: bool = False
    _acks: int = 0
    _steps: list[Step] = field(default_factory=list)
    _progress: Optional[dict[str, Any]] = None

    @property
    def task_id(self) -> str:
        return self._lease.task_id

    @property
    def kind(self) -> str:
        return self._lease.kind

    @property
    def input(self) -> Any:
        return self._lease.input

    @property
    def attempt(self) -> int:
        """Which attempt, from 1."""
        return self._lease.attempt

    @property
    def title(self) -> str:
        return self._lease.title

    @property
    def owner(self) -> str:
        return self._lease.owner

    @property
    def labels(self) -> dict[str, str]:
        return self._lease.labels

    @property
    def interrupted(self) -> bool:
        """An interrupt was directed, or the lease is lost. A thread can't be killed from outside: check, and stop."""
        return self._interrupted or self._lost

    @property
    def draining(self) -> bool:
        """This worker is about to end. What can't be done soon may be handed back: `raise Released`."""
        return self._draining

    def progress(self, fraction: Optional[float] = None, message: Optional[str] = None) -> None:
        """How far it has come: 0 to 1 where that is known, and a line for people. Cheap; the latest wins."""
        progress: dict[str, Any] = {}
        if fraction is not None and not math.isnan(fraction):
            progress["fraction"] = min(max(float(fraction), 0.0), 1.0)
        if message is not None and line(message):
            progress["message"] = line(message)
        with self._lock:
            first, self._progress = self._progress is None, progress
        if first:
            self._has_progress(self)

    def cancelled(self) -> bool:
        """Whether to stop. If a cancel is requested, this acknowledges it: stop soon."""
        self._before_check()
        self._expire()
        return self._observe()

    def wait_cancelled(self, timeout_s: Optional[float] = None) -> bool:
        """Sleeps until it is to stop, at most this long; whether it is. Acknowledges like `cancelled`."""
        self._stop.wait(timeout_s)
        return self.cancelled()

    def raise_if_cancelled(self) -> None:
        """To be called wherever the work can stop: raises `LeaseLost`, `Interrupted` or `Cancelled`."""
        if self.cancelled():
            raise LeaseLost if self._lost else Interrupted if self._interrupted else Cancelled

    @contextmanager
    def blocking(self, name: str, expected_s: Optional[float] = None) -> Iterator[None]:
        """A named step that can't be interrupted. A cancel that arrives meanwhile is answered with its name."""
        step = Step(line(name) or "a step", None if expected_s is None else _in(expected_s))
        with self._lock:
            self._steps.append(step)
            if self._cancel_requested and not self._observed and self._acks < ACKS_MAX:
                self._send_acknowledgement()
        try:
            yield
        finally:
            with self._lock:
                self._steps.remove(step)

    def _expire(self) -> bool:
        """Loses the lease if it has ended: another worker may hold it. Whether that was so."""
        overdue = not self._ended and not self._lost and time.monotonic() >= self._deadline
        if overdue:
            self._direct("lost")
        return overdue

    def _observe(self) -> bool:
        if not self._stop.is_set():
            return False
        with self._lock:
            if self._cancel_requested and not self._observed:
                self._observed = True
                if not self._acks:
                    self._send_acknowledgement()
        return True

    def _direct(self, directive: str) -> bool:
        """Applies a directive; whether it concerns a running handler. `drain` doesn't: the server stops and comes back."""
        if directive not in ("cancel", "interrupt", "lost"):
            return False
        with self._lock:
            self._seen = directive
            if directive == "lost":
                self._lost = True
            elif not self._cancel_requested:
                self._cancel_requested = True
                if self._steps:
                    self._send_acknowledgement()
            self._interrupted = self._interrupted or directive == "interrupt"
        self._stop.set()
        return not self._ended

    def _send_acknowledgement(self) -> None:
        """To be called under the lock, so that it never names a step that has ended, and always one that runs."""
        self._acks += 1
        step = self._steps[-1] if self._steps else None
        body = {"stopping_after": step and step.name, "expected_end": step and step.expected_end}
        self._acknowledge(self, body)

    def _take_progress(self) -> Optional[dict[str, Any]]:
        """The progress that hasn't been sent yet."""
        with self._lock:
            progress, self._progress = self._progress, None
        return progress


def _in(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def line(text: str, most: int = TEXT_MAX) -> str:
    """As one line that the server takes: no control characters, at most so many bytes."""
    one = "".join(" " if ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" else c for c in text).strip()
    return one.encode(errors="replace")[:most].decode(errors="ignore")
