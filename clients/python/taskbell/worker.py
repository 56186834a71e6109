"""Does the work. Three loops, each with a connection of its own, and a thread for each attempt:

- **take** asks for leases while there are free slots, and waits at the server for them;
- **listen** keeps a heartbeat parked at the server for all leases, and hears what it directs;
- **tell** says what the handlers have to say: acknowledgements, progress, and in batches how attempts ended.

Nothing is over before the server has said so: an attempt keeps its slot and its heartbeat until its end is answered.
A server that is away for a while is asked again and again; it honours the leases when it is back.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Callable, Optional, Union

from .client import Client
from .context import Context, Lease
from .ends import LEASES_MAX, End, Handler, batches, instead, read_end, run
from .errors import Problem, Unreachable
from .wire import Cut, KeepTrying, Wire

log = logging.getLogger("taskbell")

#: How long a heartbeat waits for directives; the server cuts it to a third of the lease, in seconds.
BEAT_S = 10.0
#: Between two heartbeats without news, so that attempts of a few milliseconds don't each begin another, in seconds.
SETTLE_S = 0.05
#: Progress is told so often at most, in seconds.
PROGRESS_S = 0.1
#: How often the worker looks at the clock; a step larger than `SLEPT_S` means that it didn't run meanwhile, in seconds.
TICK_S, SLEPT_S = 0.25, 5.0
#: How long a handler that looks is kept after such a sleep, until the server has said whether the lease is still ours.
SURE_S = 2.0
#: Pause after an answer that should have waited and didn't, or an end that the server can't take just now, in seconds.
AGAIN_S = 0.5


@dataclass(frozen=True)
class Ack:
    """A request to cancel is known to the attempt."""

    context: Context
    said: dict[str, Any]


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
        #: The attempts whose ends are not answered yet, by lease; with the condition that something in it changed.
        self._attempts: dict[str, Context] = {}
        self._changed = threading.Condition()
        #: What is to be told; a context: its progress; None: nothing more.
        self._words: SimpleQueue[Union[Ack, Context, End, None]] = SimpleQueue()
        self._listener = self._client.new_wire()
        self._signalled = False
        #: No new attempts; then: nothing at all.
        self._stopping, self._closed = threading.Event(), threading.Event()
        #: Cleared after a sleep, until the server has answered a heartbeat.
        self._sure = threading.Event()
        self._sure.set()
        self._noticed = time.time()
        self._failed: Optional[BaseException] = None

    def run(self) -> None:
        """Works until `stop` is called or SIGTERM or SIGINT arrives, then drains. A second signal ends the process.

        When this returns, the process should end: a handler that outlived the grace still has its thread. Raises what
        the server says where it refuses this worker altogether.
        """
        wires = {self._take: self._client.new_wire(), self._listen: self._listener, self._tell: self._client.new_wire()}
        take, *others = (
            threading.Thread(target=self._guard, args=(loop, wire), name=f"taskbell{loop.__name__}", daemon=True)
            for loop, wire in wires.items()
        )
        with self._signals():
            for thread in (take, *others):
                thread.start()
            while not self._signalled and not self._stopping.wait(TICK_S):
                self._notice()
        self.stop()
        self._drain(take)
        self._closed.set()
        self._words.put(None)
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

    # Take.

    def _take(self, wire: Wire) -> None:
        while (free := self._wait_for_slots()) > 0:
            asked = {"worker": self.name, "kinds": sorted(self._handlers), "max": free, "wait_s": self._wait_s}
            if self._queues is not None:
                asked["queues"] = list(self._queues)
            began = time.monotonic()
            try:
                leases = wire.call(
                    "POST", "/v1/leases", asked, _read_leases, self._until(self._stopping), wait_s=self._wait_s
                )
            except Unreachable:
                return
            for lease in leases:
                self._begin(lease)
            if not leases and time.monotonic() - began < self._wait_s / 2:
                self._stopping.wait(AGAIN_S)

    def _wait_for_slots(self) -> int:
        """How many attempts may begin; 0 when the worker is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or len(self._attempts) < self._concurrency)
            return 0 if self._stopping.is_set() else self._concurrency - len(self._attempts)

    def _begin(self, lease: Lease) -> None:
        context = Context(lease, lambda c, said: self._words.put(Ack(c, said)), self._words.put, self._look)
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
        self._listener.cut()  # its heartbeat doesn't cover this lease

    def _end(self, context: Context, said: Optional[dict[str, Any]]) -> None:
        if context._ended:
            return  # it was handed back meanwhile
        context._ended = True
        if said is None or context._lost:
            self._forget(context)
        else:
            self._words.put(End(context, said))

    def _forget(self, context: Context) -> None:
        with self._changed:
            self._attempts.pop(context._lease.lease, None)
            self._changed.notify_all()

    # Listen.

    def _listen(self, wire: Wire) -> None:
        news = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._held())
            if self._closed.wait(0 if news else SETTLE_S):
                return
            wire.mend()
            with self._changed:
                held = dict.fromkeys(self._held())
            news = False
            try:
                if held:
                    news = self._beat(wire, held, BEAT_S)
                    self._sure.set()
            except Cut:
                continue
            except Unreachable:
                return
            except Problem as problem:
                log.error("the server refuses the heartbeat: %s", problem)
                self._closed.wait(AGAIN_S)

    def _held(self) -> list[Context]:
        """The attempts that are ours, as far as we know. Under the condition's lock."""
        return [context for context in self._attempts.values() if not context._lost]

    def _beat(self, wire: Wire, contexts: Mapping[Context, Optional[dict[str, Any]]], wait_s: float) -> bool:
        """One heartbeat for these attempts, with their progress where there is some. Whether it brought news."""
        leases = []
        for context, progress in contexts.items():
            said = {"lease": context._lease.lease, "seen": context._seen, "progress": progress}
            leases.append({field: value for field, value in said.items() if value is not None})
        asked = {"worker": self.name, "leases": leases, "wait_s": wait_s}
        directives = wire.call(
            "POST", "/v1/leases/heartbeat", asked, _read_directives, self._until(self._closed), wait_s=wait_s
        )
        by_lease = {context._lease.lease: context for context in contexts}
        news = False
        for lease, directive in directives:
            if lease in by_lease and by_lease[lease]._direct(directive):
                news = True
        return news

    # Tell.

    def _tell(self, wire: Wire) -> None:
        speaking: dict[Context, None] = {}
        due = 0.0
        while True:
            words = self._hear(max(0.0, due - time.monotonic()) if speaking else None)
            speaking.update((word, None) for word in words if isinstance(word, Context))
            ends = [word for word in words if isinstance(word, End)]
            try:
                for word in words:
                    if isinstance(word, Ack):
                        self._tell_ack(wire, word)
                # What was said last belongs to the end, so it is told before.
                if speaking and (ends or time.monotonic() >= due):
                    self._tell_progress(wire, speaking)
                    speaking.clear()
                    due = time.monotonic() + PROGRESS_S
                for batch in batches(ends):
                    self._tell_ends(wire, batch)
            except Unreachable:
                return
            if None in words:
                return

    def _hear(self, timeout: Optional[float]) -> list[Union[Ack, Context, End, None]]:
        """Waits for something to tell, and takes all that there is: while one call is under way, others gather."""
        words = []
        try:
            words.append(self._words.get(timeout=timeout))
            while True:
                words.append(self._words.get_nowait())
        except Empty:
            return words

    def _tell_ack(self, wire: Wire, ack: Ack) -> None:
        said = {"lease": ack.context._lease.lease, **ack.said}
        try:
            wire.call("POST", "/v1/leases/cancel-ack", said, lambda _: None, self._until(self._closed))
        except Problem as problem:
            if problem.code == "lease_lost":
                ack.context._direct("lost")
            else:
                log.warning("task %s: the acknowledgement was refused: %s", ack.context.task_id, problem)

    def _tell_progress(self, wire: Wire, contexts: Mapping[Context, None]) -> None:
        said = {context: context._take_progress() for context in contexts if not context._lost}
        try:
            if said:
                self._beat(wire, said, 0)
        except Problem as problem:
            log.warning("progress was refused: %s", problem)

    def _tell_ends(self, wire: Wire, ends: list[End]) -> None:
        """Tells how attempts ended, until it is answered. One that spoils a batch is found by telling each alone."""
        items = [{"lease": end.context._lease.lease, **end.said} for end in ends]

        def read(answer: Any) -> list[Optional[Problem]]:
            if len(answer["items"]) != len(items):
                raise ValueError("not as many answers as ends")
            return [read_end(item) for item in answer["items"]]

        try:
            answers = wire.call("POST", "/v1/leases/finish", {"items": items}, read, self._until(self._closed))
        except Problem as problem:
            if len(ends) > 1:
                for end in ends:
                    self._tell_ends(wire, [end])
                return
            answers = [problem]
        for end, refused in zip(ends, answers):
            self._settle(end, refused)
        if any(refused is not None and refused.retryable for refused in answers):
            self._closed.wait(AGAIN_S)

    def _settle(self, end: End, refused: Optional[Problem]) -> None:
        """The server has answered: the attempt is over, or something else must be said of it."""
        if refused is None:
            self._forget(end.context)
        elif refused.retryable:
            self._words.put(end)
        elif refused.code == "lease_lost" or end.again:
            log.warning("task %s: its end was refused: %s", end.context.task_id, refused)
            end.context._direct("lost")
            self._forget(end.context)
        else:
            self._words.put(instead(end, refused))

    # What surrounds the loops.

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
            told = lambda: not any(context in self._attempts.values() for context in left)
            if not self._changed.wait_for(told, SURE_S):
                log.error("ends that could not be told: the server will count these attempts as lost")

    def _look(self) -> None:
        """A handler looks. After a sleep the lease may be somebody else's, and the server is asked first."""
        self._notice()
        if not self._sure.is_set() and not self._sure.wait(SURE_S):
            self._sure.set()  # it can't be asked now; what it says to the end decides

    def _notice(self) -> None:
        before, self._noticed = self._noticed, time.time()
        if self._noticed - before > SLEPT_S:
            log.warning("the process slept for %.0f s; asking for the leases", self._noticed - before)
            self._sure.clear()
            self._listener.cut()

    def _until(self, over: threading.Event) -> KeepTrying:
        def keep_trying(failed: Exception, pause: float) -> bool:
            log.warning("%s; trying again in %.1f s", failed, pause)
            if over.wait(pause):
                # However the last try failed, it is the end of this loop and no news.
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

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def heard(_number: int, _frame: Any) -> None:
            self._signalled = True

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _read_leases(answer: Any) -> list[Lease]:
    leases = [Lease(**{field: item[field] for field in Lease.__dataclass_fields__}) for item in answer["leases"]]
    if any(not isinstance(lease.lease, str) or not isinstance(lease.kind, str) for lease in leases):
        raise TypeError("a lease and a kind are texts")
    return leases


def _read_directives(answer: Any) -> list[tuple[str, str]]:
    return [(str(item["lease"]), str(item["directive"])) for item in answer["directives"]]
