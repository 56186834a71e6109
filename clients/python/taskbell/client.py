"""For whoever wants work done: submit, get, wait, cancel."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Optional, TypedDict
from urllib.parse import quote

from .errors import Problem
from .wire import KeepTrying, Wire

#: A task in one of these has ended, until somebody has it run again.
FINAL = frozenset({"succeeded", "failed", "cancelled"})

#: How long the server keeps a read that asks for a position it hasn't reached, in seconds.
BEHIND_S = 5.0
FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 1.0


class Task(TypedDict):
    """A task as the server tells it. Times are RFC 3339 in UTC; what is absent is None, never missing."""

    id: str
    kind: str
    title: str
    owner: str
    queue: str
    priority: int
    labels: dict[str, str]
    parent: Optional[str]
    status: str
    waiting_for: Optional[str]
    attempt: int
    max_attempts: int
    worker: Optional[str]
    created_at: str
    run_at: Optional[str]
    started_at: Optional[str]
    finished_at: Optional[str]
    duration_ms: Optional[int]
    retry_at: Optional[str]
    timeout_s: Optional[int]
    progress: Optional[dict[str, Any]]
    outcome: Optional[dict[str, Any]]
    cancel: Optional[dict[str, Any]]
    revision: int
    position: int
    input: Any
    result: Any


class Client:
    """Calls to one server; may be shared by threads, each of which gets a connection of its own.

    `server`, `token` and `ca_file` are TASKBELL_SERVER, TASKBELL_TOKEN and TASKBELL_CA_FILE where they are not given.
    `ca_file` is a PEM file with certificates of authorities that are trusted besides those of the system; it matters for
    https. A call that gets no answer is repeated for `patience_s` seconds.
    """

    def __init__(
        self,
        server: Optional[str] = None,
        token: Optional[str] = None,
        *,
        patience_s: float = 30.0,
        ca_file: Optional[str] = None,
    ) -> None:
        self._server = server or os.environ.get("TASKBELL_SERVER") or "http://127.0.0.1:7070"
        self._token = token or os.environ.get("TASKBELL_TOKEN")
        self._ca_file = ca_file or os.environ.get("TASKBELL_CA_FILE")
        self._patience_s = patience_s
        self._threads = threading.local()
        self.wire()  # an address that is none is refused here and not later

    def submit(
        self,
        kind: str,
        input: Any = None,
        *,
        idempotency_key: Optional[str] = None,
        title: Optional[str] = None,
        queue: Optional[str] = None,
        priority: Optional[int] = None,
        run_at: Optional[datetime] = None,
        max_attempts: Optional[int] = None,
        timeout_s: Optional[int] = None,
        labels: Optional[Mapping[str, str]] = None,
        owner: Optional[str] = None,
        parent: Optional[str] = None,
        unique_key: Optional[str] = None,
        concurrency_key: Optional[str] = None,
    ) -> Task:
        """Asks for work, once: when this returns, it is durable. The same `idempotency_key` gives the same task."""
        if run_at is not None and run_at.tzinfo is None:
            raise ValueError("run_at needs a time zone")
        asked = {
            "kind": kind,
            "input": input,
            "title": title,
            "queue": queue,
            "priority": priority,
            "run_at": run_at and run_at.astimezone(timezone.utc).isoformat(),
            "max_attempts": max_attempts,
            "timeout_s": timeout_s,
            "labels": labels and dict(labels),
            "owner": owner,
            "parent": parent,
            "unique_key": unique_key,
            "concurrency_key": concurrency_key,
        }
        body = {field: value for field, value in asked.items() if value is not None}
        # Without a key of the caller's, one for this call: else a repeated try could create a second task.
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        return self._call("POST", "/v1/tasks", body, {"Idempotency-Key": key})

    def get(self, task_id: str, *, min_position: Optional[int] = None) -> Task:
        """The task, as of `min_position` or later: `Problem` `behind` where the server doesn't get there in 5 s."""
        query = "" if min_position is None else f"?min_position={min_position}"
        return self._call("GET", _path(task_id) + query)

    def wait(self, task_id: str, timeout_s: Optional[float] = None) -> Task:
        """The task when it has ended, in whatever way. Raises `TimeoutError` where it doesn't in time.

        A read for the next position of the log comes back when anything happens at all. On a busy server that is at
        once, so it looks less often the longer nothing happens to this task.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        task = self.get(task_id)
        position, pause = task["position"], FIRST_LOOK_S
        while task["status"] not in FINAL:
            left = BEHIND_S if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"task {task_id} is still {task['status']}")
            next_position = max(position, task["position"]) + 1
            try:
                newer = self.get(task_id, min_position=next_position if left >= BEHIND_S else None)
            except Problem as problem:
                if problem.code != "behind":
                    raise
                continue
            position = next_position
            if newer["revision"] == task["revision"]:
                time.sleep(min(pause, left))
                pause = min(pause * 1.5, LONGEST_LOOK_S)
            else:
                pause = FIRST_LOOK_S
            task = newer
        return task

    def cancel(self, task_id: str, reason: Optional[str] = None) -> Task:
        """Asks for the task to stop. What runs is `cancelling` until it has stopped; what has ended stays so."""
        body = {} if reason is None else {"reason": reason}
        return self._call("POST", _path(task_id) + "/cancel", body)

    def wire(self) -> Wire:
        """This thread's connection."""
        wire: Optional[Wire] = getattr(self._threads, "wire", None)
        if wire is None:
            wire = self._threads.wire = self.new_wire()
        return wire

    def new_wire(self) -> Wire:
        """One more connection to the same server."""
        return Wire(self._server, self._token, self._ca_file)

    def _call(self, method: str, path: str, body: Any = None, headers: Optional[dict[str, str]] = None) -> Task:
        return self.wire().call(method, path, body, _read_task, _until(self._patience_s), headers=headers)


def _until(patience_s: float) -> KeepTrying:
    end = time.monotonic() + patience_s

    def keep_trying(_failed: Exception, pause: float) -> bool:
        if time.monotonic() + pause > end:
            return False
        time.sleep(pause)
        return True

    return keep_trying


def _path(task_id: str) -> str:
    return f"/v1/tasks/{quote(task_id, safe='')}"


def _read_task(answer: Any) -> Task:
    if not isinstance(answer["id"], str) or not isinstance(answer["status"], str):
        raise TypeError("no task")
    int(answer["revision"]), int(answer["position"])
    task: Task = answer
    return task
