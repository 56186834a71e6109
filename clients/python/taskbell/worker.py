"""Does the work. Three loops, each with a connection of its own, and a thread for each attempt:

- **take** asks for leases while there are free slots, and waits at the server for them;
- **listen** keeps a heartbeat parked at the server for all leases, and receives its directives;
- **tell** sends what the handlers report: acknowledgements, progress, and in batches how attempts ended.

An attempt keeps its slot and its heartbeat until the server has answered its end. Requests to a server that can't be reached
are repeated; it honours the leases when it is back.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Callable, Optional, Union

from .client import Client
from .context import Context, Lease
from .ends import LEASES_MAX, Ack, End, Handler, batches, instead, read_end, run
from .errors import Problem, Unreachable
from .lease_time import read_beat, read_leases, third_of_time_left
from .signals import on_stop_signal
from .wire import PATIENCE_S, Cut, KeepTrying, Wire, pauses

log = logging.getLogger("taskbell")

#: How long a heartbeat waits for directives: at most this, and at most a third of the time that is left, in seconds.
BEAT_S = 10.0
#: Between two heartbeats without news, so that attempts of a few milliseconds don't each begin another, in seconds.
SETTLE_S = 0.05
#: The time between two heartbeats with progress, in seconds.
PROGRESS_S = 0.1
#: How often the worker looks at the clock; a step larger than `SLEPT_S` means that it didn't run meanwhile, in seconds.
TICK_S, SLEPT_S = 0.25, 5.0
#: After such a sleep: how long a handler that checks for a cancel waits for the server to confirm the leases, in seconds.
CONFIRM_S = 2.0
#: Pause after an empty answer that came too early, or an end that the server can't take now, in seconds.
AGAIN_S = 0.5


class Worker:
    """Runs handlers for the kinds that they are named for, at most `concurrency` attempts at once.

    `grace_s`: how long `run` waits, once it is to stop, for what runs. `wait_s`: how long the server keeps a request
    for leases (0 to 30); an idle worker takes up to this long to stop, because a request that is cut could lose a
    lease that is on its way.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        client: Optional[Client] = None,
        *,
        concurrency: int = 1,
        queues: Optional[Sequence[str]] = None,
        name: str = "python",
        grace_s: float = 7.0,
        wait_s: float = 5.0,
    ) -> None:
        if not handlers or not 1 <= concurrency <= LEASES_MAX:
            raise ValueError(f"a worker needs a handler and 1 to {LEASES_MAX} slots")
        self.name = f"{name}/{socket.gethostname()[:48]}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._handlers = dict(handlers)
        self._client = client or Client()
        self._concurrency, self._queues, self._grace_s, self._wait_s = concurrency, queues, grace_s, wait_s
        #: The attempts whose ends are not answered yet, by lease. The condition is notified of each change.
        self._attempts: dict[str, Context] = {}
        self._changed = threading.Condition()
        #: What is to be sent: acknowledgements, ends, contexts that have progress; None ends the loop.
        self._reports: SimpleQueue[Union[Ack, Context, End, None]] = SimpleQueue()
        self._listener = self._client.new_wire()
        self._signalled = False
        #: Set when no new attempts are to begin, and when all loops are to end.
        self._stopping, self._closed = threading.Event(), threading.Event()
        #: Cleared after a sleep, until the server has answered a heartbeat.
        self._confirmed = threading.Event()
        self._confirmed.set()
        self._last_tick = time.time()
        self._failed: Optional[BaseException] = None

    def run(self) -> None:
        """Works until `stop` is called or SIGTERM or SIGINT arrives, then drains. A second signal ends the process.

        When this returns, the process should end: a handler that outlived the grace still has its thread. Raises the
        `Problem` of a server that refuses this worker.
        """
        wires = {self._take: self._client.new_wire(), self._listen: self._listener, self._tell: self._client.new_wire()}
        take, *others = (
            threading.Thread(target=self._guard, args=(loop, wire), name=f"taskbell{loop.__name__}", daemon=True)
            for loop, wire in wires.items()
        )
        expire = threading.Thread(target=self._expire, name="taskbell_expire", daemon=True)
        with on_stop_signal(self._signal):
            for thread in (take, *others, expire):
                thread.start()
            while not self._signalled and not self._stopping.wait(TICK_S):
                self._check_clock()
        self.stop()
        self._drain(take)
        self._closed.set()
        self._reports.put(None)
        self._listener.cut()
        with self._changed:
            self._changed.notify_all()
        for thread in others:
            thread.join(1.0)
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """No new attempts; those that run have the grace. May be called from any thread."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def _signal(self) -> None:
        self._signalled = True

    # Take.

    def _take(self, wire: Wire) -> None:
        while (free := self._wait_for_slots()) > 0:
            body = {"worker": self.name, "kinds": sorted(self._handlers), "max": free, "wait_s": self._wait_s}
            if self._queues is not None:
                body["queues"] = list(self._queues)
            began = time.monotonic()
            try:
                leases = wire.call(
                    "POST", "/v1/leases", body, read_leases, self._until(self._stopping), wait_s=self._wait_s
                )
            except Unreachable:
                return
            for lease, left_s in leases:
                self._begin(lease, left_s)
            if not leases and time.monotonic() - began < self._wait_s / 2:
                self._stopping.wait(AGAIN_S)

    def _wait_for_slots(self) -> int:
        """How many attempts may begin; 0 when the worker is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or len(self._attempts) < self._concurrency)
            return 0 if self._stopping.is_set() else self._concurrency - len(self._attempts)

    def _begin(self, lease: Lease, left_s: float) -> None:
        """Begins the attempt of a lease that has just arrived; half of its time is a margin for the answer's way."""
        context = Context(lease, lambda c, body: self._reports.put(Ack(c, body)), self._reports.put, self._before_check)
        context._deadline = time.monotonic() + left_s / 2
        with self._changed:
            if lease.lease in self._attempts:
                return
            self._attempts[lease.lease] = context
            self._changed.notify_all()
        handler = self._handlers.get(lease.kind)
        if self._stopping.is_set() or handler is None:
            self._end(context, {"outcome": "released"})
            return
        threading.Thread(
            target=lambda: self._end(context, run(handler, context)), name=f"taskbell-{lease.task_id}", daemon=True
        ).start()
        self._listener.cut()  # its heartbeat doesn't name this lease

    def _end(self, context: Context, end: Optional[dict[str, Any]]) -> None:
        if context._ended:
            return  # it was handed back before
        context._ended = True
        if end is None or context._lost:
            self._forget(context)
        else:
            self._reports.put(End(context, end))

    def _forget(self, context: Context) -> None:
        with self._changed:
            self._attempts.pop(context._lease.lease, None)
            self._changed.notify_all()

    # Listen.

    def _listen(self, wire: Wire) -> None:
        news, tries, failed = False, pauses(), False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._held())
            if self._closed.wait(0 if news or failed else SETTLE_S):
                return
            wire.mend()
            with self._changed:
                held = dict.fromkeys(self._held())
            news = False
            if not held:
                continue
            third, again = third_of_time_left(held), 0.0

            def once(_failed: Exception, pause: float) -> bool:
                nonlocal again
                again = pause
                return False

            try:
                wait_s = 0.0 if failed else min(BEAT_S, third)
                news = self._beat(wire, held, wait_s, once, min(PATIENCE_S, third))
                tries, failed = pauses(), False
                self._confirmed.set()
            except Cut:
                continue
            except (Problem, Unreachable) as error:
                failed = True
                log.warning("a heartbeat failed: %s", error)
                self._closed.wait(min(max(next(tries), again), third / 2))

    def _held(self) -> list[Context]:
        """The attempts that are ours, as far as we know. Under the condition's lock."""
        return [context for context in self._attempts.values() if not context._lost]

    def _beat(
        self,
        wire: Wire,
        contexts: Mapping[Context, Optional[dict[str, Any]]],
        wait_s: float,
        keep_trying: KeepTrying,
        allowance_s: Optional[float] = None,
    ) -> bool:
        """One heartbeat for these attempts, with their progress where there is some. Whether it brought news."""
        leases = []
        for context, progress in contexts.items():
            beat = {"lease": context._lease.lease, "seen": context._seen, "progress": progress}
            leases.append({field: value for field, value in beat.items() if value is not None})
        body = {"worker": self.name, "leases": leases, "wait_s": wait_s}
        directives, left_s = wire.call(
            "POST", "/v1/leases/heartbeat", body, read_beat, keep_trying, wait_s=wait_s, allowance_s=allowance_s
        )
        by_lease = {context._lease.lease: context for context in contexts}
        for context in contexts:
            # The answer was sent after the heartbeat was: this is never too late.
            context._deadline = max(context._deadline, wire.sent + left_s)
        news = False
        for lease, directive in directives:
            if lease in by_lease and by_lease[lease]._direct(directive):
                news = True
        return news

    def _expire(self) -> None:
        """Loses each lease at its deadline."""
        while not self._closed.is_set():
            with self._changed:
                running = [context for context in self._held() if not context._ended]
                next_s = min((context._deadline for context in running), default=math.inf) - time.monotonic()
                self._changed.wait(None if next_s == math.inf else max(0.0, next_s))
            for context in running:
                if context._expire():
                    log.warning("task %s is given up: no heartbeat got through in time", context.task_id)

    # Tell.

    def _tell(self, wire: Wire) -> None:
        with_progress: dict[Context, None] = {}
        due = 0.0
        while True:
            reports = self._next_reports(max(0.0, due - time.monotonic()) if with_progress else None)
            with_progress.update((report, None) for report in reports if isinstance(report, Context))
            ends = [report for report in reports if isinstance(report, End)]
            try:
                for report in reports:
                    if isinstance(report, Ack):
                        self._send_ack(wire, report)
                # The last progress is recorded with the end, so it is sent before.
                if with_progress and (ends or time.monotonic() >= due):
                    self._send_progress(wire, with_progress)
                    with_progress.clear()
                    due = time.monotonic() + PROGRESS_S
                for batch in batches(ends):
                    self._send_ends(wire, batch)
            except Unreachable:
                return
            if None in reports:
                return

    def _next_reports(self, timeout: Optional[float]) -> list[Union[Ack, Context, End, None]]:
        """Waits for a report, and takes all that there are: more of them gather while a request is under way."""
        reports = []
        try:
            reports.append(self._reports.get(timeout=timeout))
            while True:
                reports.append(self._reports.get_nowait())
        except Empty:
            return reports

    def _send_ack(self, wire: Wire, ack: Ack) -> None:
        body = {"lease": ack.context._lease.lease, **ack.body}
        try:
            wire.call("POST", "/v1/leases/cancel-ack", body, lambda _: None, self._until(self._closed))
        except Problem as problem:
            if problem.code == "lease_lost":
                ack.context._direct("lost")
            else:
                log.warning("task %s: the acknowledgement was refused: %s", ack.context.task_id, problem)

    def _send_progress(self, wire: Wire, contexts: Mapping[Context, None]) -> None:
        progress = {context: context._take_progress() for context in contexts if not context._lost}
        try:
            if progress:
                self._beat(wire, progress, 0, self._until(self._closed))
        except Problem as problem:
            log.warning("progress was refused: %s", problem)

    def _send_ends(self, wire: Wire, ends: list[End]) -> None:
        """Sends ends until they are answered. If the whole batch is refused, each is sent alone."""
        items = [{"lease": end.context._lease.lease, **end.body} for end in ends]

        def read(answer: Any) -> list[Optional[Problem]]:
            if len(answer["items"]) != len(items):
                raise ValueError("not as many answers as ends")
            return [read_end(item) for item in answer["items"]]

        try:
            answers = wire.call("POST", "/v1/leases/finish", {"items": items}, read, self._until(self._closed))
        except Problem as problem:
            if len(ends) > 1:
                for end in ends:
                    self._send_ends(wire, [end])
                return
            answers = [problem]
        for end, refused in zip(ends, answers):
            self._settle(end, refused)
        if any(refused is not None and refused.retryable for refused in answers):
            self._closed.wait(AGAIN_S)

    def _settle(self, end: End, refused: Optional[Problem]) -> None:
        """Handles the server's answer to an end: the attempt is over, or the end is sent again, or another in its place."""
        if refused is None:
            self._forget(end.context)
        elif refused.retryable:
            self._reports.put(end)
        elif refused.code == "lease_lost" or end.again:
            log.warning("task %s: its end was refused: %s", end.context.task_id, refused)
            end.context._direct("lost")
            self._forget(end.context)
        else:
            self._reports.put(instead(end, refused))

    # Around the loops.

    def _drain(self, take: threading.Thread) -> None:
        end = time.monotonic() + self._grace_s
        with self._changed:
            for context in self._attempts.values():
                context._draining = True
        take.join(self._grace_s)
        with self._changed:
            self._changed.wait_for(lambda: not self._attempts, max(0.0, end - time.monotonic()))
            left = self._held()
        for context in left:
            if not context._ended:
                log.warning("task %s is handed back: its handler didn't end within the grace", context.task_id)
                self._end(context, {"outcome": "released"})
                context._direct("lost")
        with self._changed:
            answered = lambda: not any(context in self._attempts.values() for context in left)
            if not self._changed.wait_for(answered, CONFIRM_S):
                log.error("ends that could not be told: the server will count these attempts as lost")

    def _before_check(self) -> None:
        """Before a handler checks for a cancel: after a sleep another worker may hold the lease, so the server confirms it."""
        self._check_clock()
        if not self._confirmed.is_set() and not self._confirmed.wait(CONFIRM_S):
            self._confirmed.set()  # it can't be reached; its answer to the end decides

    def _check_clock(self) -> None:
        before, self._last_tick = self._last_tick, time.time()
        if self._last_tick - before > SLEPT_S:
            log.warning("the process slept for %.0f s; asking for the leases", self._last_tick - before)
            self._confirmed.clear()
            self._listener.cut()

    def _until(self, over: threading.Event) -> KeepTrying:
        def keep_trying(failed: Exception, pause: float) -> bool:
            log.warning("%s; trying again in %.1f s", failed, pause)
            if over.wait(pause):
                # The loop ends, however the last try failed.
                raise Unreachable(str(failed))
            return True

        return keep_trying

    def _guard(self, loop: Callable[[Wire], None], wire: Wire) -> None:
        try:
            loop(wire)
        except BaseException as error:
            self._failed = error
            self.stop()
        finally:
            wire.close()
