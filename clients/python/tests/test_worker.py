"""The worker against a server that does what the test wants."""

from __future__ import annotations

import logging
import threading
import time
import unittest
from queue import SimpleQueue
from typing import Any, Callable, Optional
from unittest import mock

from taskbell import Cancelled, Client, Context, Done, Failure, Handler, Interrupted, LeaseLost, Problem, Released
from taskbell import Unreachable, Worker
from taskbell import ends
from taskbell import wire as wire_module

from .fake import ACK, BEAT, FINISH, LEASES, FakeServer, lease, ok, problem


class WorkerCase(unittest.TestCase):
    def setUp(self) -> None:
        logging.getLogger("taskbell").setLevel(logging.CRITICAL)
        self.fake = FakeServer()
        self.addCleanup(self.fake.close)

    def work(
        self, handler: Handler, leases: Optional[int] = 1, concurrency: int = 4, grace_s: float = 5.0
    ) -> Worker:
        if leases is not None:
            self.fake.to_lease = [lease(number) for number in range(leases)]
        worker = Worker(
            {"test": handler}, Client(self.fake.url), concurrency=concurrency, grace_s=grace_s, wait_s=1
        )
        self.thread = threading.Thread(target=self.run_it, args=(worker,), daemon=True)
        self.raised: BaseException | None = None
        self.thread.start()
        self.addCleanup(self.join, worker)
        return worker

    def run_it(self, worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:
            self.raised = error

    def join(self, worker: Worker) -> None:
        worker.stop()
        self.fake.hurry()
        self.thread.join(15)
        self.assertFalse(self.thread.is_alive(), "the worker doesn't stop")

    def ended(self, count: int = 1) -> list[dict]:
        self.fake.until(lambda: len(self.fake.ends()) >= count)
        return self.fake.ends()


class Ends(WorkerCase):
    def test_what_is_done_is_told_with_its_message_and_result(self) -> None:
        self.work(lambda ctx: Done("two\nlines", result={"n": 1}))
        self.assertEqual(
            self.ended(),
            [{"lease": lease(0)["lease"], "outcome": "succeeded", "message": "two lines", "result": {"n": 1}}],
        )

    def test_each_way_to_end_has_its_outcome(self) -> None:
        def said(error: BaseException) -> dict:
            context = mock.Mock(task_id="task", attempt=1)
            end = ends.run(mock.Mock(side_effect=error), context)
            assert end is not None
            return end

        self.assertEqual(
            said(Failure("no_disk", "the disk\x00is full", retryable=False)),
            {"outcome": "failed", "error": {"code": "no_disk", "message": "the disk is full"}, "retryable": False},
        )
        self.assertEqual(
            said(ZeroDivisionError("by zero")),
            {
                "outcome": "failed",
                "error": {"code": "exception", "message": "ZeroDivisionError: by zero"},
                "retryable": True,
            },
        )
        stopped = {"outcome": "cancelled", "message": "2 of 3", "result": 2}
        self.assertEqual(said(Cancelled("2 of 3", result=2)), stopped)
        self.assertEqual(said(Cancelled(result=object())), {"outcome": "cancelled"})
        self.assertEqual(said(Interrupted()), {"outcome": "cancelled"})
        self.assertEqual(said(Released()), {"outcome": "released"})
        self.assertIsNone(ends.run(mock.Mock(side_effect=LeaseLost()), mock.Mock()))

    def test_a_result_that_is_no_json_is_a_failure_and_is_not_tried_again(self) -> None:
        for result in (object(), float("nan"), "\ud800"):
            said = ends.run(lambda _, result=result: Done(result=result), mock.Mock())  # type: ignore[misc]
            assert said is not None
            self.assertEqual((said["error"]["code"], said["retryable"]), ("invalid_result", False))

    def test_a_finish_is_repeated_until_it_is_answered(self) -> None:
        self.fake.instead[FINISH] = [
            None,
            problem(503, "busy", True),
            (200, {}, b"<html>"),
            ok({"items": []}),
            ok({"items": [{"neither": 1}]}),
            ok([]),
        ]
        self.work(lambda ctx: None)
        ends = self.ended(7)
        self.assertEqual([end["outcome"] for end in ends], ["succeeded"] * 7)

    def test_an_attempt_keeps_its_heartbeat_until_its_end_is_answered(self) -> None:
        self.fake.instead[FINISH] = [None] * 3
        self.work(lambda ctx: None)
        self.fake.until(lambda: self.fake.of(BEAT))

    def test_ends_gather_in_batches_while_one_is_under_way(self) -> None:
        gate = threading.Barrier(50)

        def handler(ctx: Context) -> None:
            gate.wait(10)

        self.work(handler, leases=50, concurrency=50)
        self.ended(50)
        self.assertLess(len(self.fake.of(FINISH)), 50)

    def test_an_end_that_spoils_its_batch_is_told_alone_and_then_as_a_failure(self) -> None:
        real = self.fake.answer

        def answer(path: str, body: dict) -> tuple:
            if path == FINISH and any(item.get("message") == "spoilt" for item in body["items"]):
                return problem(422, "invalid_request")
            return real(path, body)

        self.fake.answer = answer  # type: ignore[method-assign]
        gate = threading.Barrier(3)

        def handler(ctx: Context) -> Done:
            gate.wait(10)
            return Done("spoilt" if ctx.task_id == "task-1" else "good")

        self.work(handler, leases=3)
        self.fake.until(lambda: any(end["outcome"] == "failed" for end in self.fake.ends()))
        failed = next(end for end in self.fake.ends() if end["outcome"] == "failed")
        self.assertEqual((failed["lease"], failed["error"]["code"]), (lease(1)["lease"], "invalid_request"))
        self.assertFalse(failed["retryable"])

    def test_an_end_that_the_server_cannot_take_just_now_is_told_again(self) -> None:
        busy = {"problem": {"status": 503, "code": "busy", "detail": "", "retryable": True}}
        self.fake.instead[FINISH] = [ok({"items": [busy]})]
        self.work(lambda ctx: None)
        self.assertEqual([end["outcome"] for end in self.ended(2)], ["succeeded", "succeeded"])

    def test_an_end_that_is_refused_for_good_becomes_a_failure(self) -> None:
        damaged = {"problem": {"status": 500, "code": "log_damaged", "detail": "", "retryable": False}}
        self.fake.instead[FINISH] = [ok({"items": [damaged]})]
        self.work(lambda ctx: None)
        self.assertEqual([end["outcome"] for end in self.ended(2)], ["succeeded", "failed"])

    def test_a_late_end_is_let_go(self) -> None:
        lost = {"problem": {"status": 409, "code": "lease_lost", "detail": "", "retryable": False}}
        self.fake.instead[FINISH] = [ok({"items": [lost]})]
        worker = self.work(lambda ctx: None)
        self.ended()
        self.join(worker)
        self.assertEqual(len(self.fake.ends()), 1)


class Directives(WorkerCase):
    def test_a_cancel_is_acknowledged_when_the_handler_looks(self) -> None:
        def handler(ctx: Context) -> None:
            self.assertTrue(ctx.wait_cancelled(10))
            ctx.raise_if_cancelled()

        self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "cancel")
        self.assertEqual(self.ended()[0]["outcome"], "cancelled")
        at_once = {"lease": lease(0)["lease"], "stopping_after": None, "expected_end": None}
        self.assertEqual(self.fake.of(ACK), [at_once])

    def test_a_cancel_during_a_step_is_answered_with_its_name_at_once(self) -> None:
        go_on = threading.Event()

        def handler(ctx: Context) -> None:
            with ctx.blocking("writing\nimage", expected_s=20):
                go_on.wait(10)
            ctx.raise_if_cancelled()

        self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "cancel")
        self.fake.until(lambda: self.fake.of(ACK))
        go_on.set()
        self.ended()
        (ack,) = self.fake.of(ACK)
        self.assertEqual(ack["stopping_after"], "writing image")
        self.assertRegex(ack["expected_end"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$")

    def test_a_step_that_begins_after_an_unseen_cancel_is_what_the_stop_waits_for(self) -> None:
        begin = threading.Event()

        def handler(ctx: Context) -> None:
            begin.wait(10)
            with ctx.blocking("posting"):
                pass

        self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "cancel")
        held = lambda: [item for body in self.fake.of(BEAT) for item in body["leases"]]
        self.fake.until(lambda: any(item.get("seen") == "cancel" for item in held()))
        begin.set()
        self.assertEqual(self.ended()[0]["outcome"], "succeeded")  # and it may finish first
        self.assertEqual([ack["stopping_after"] for ack in self.fake.of(ACK)], ["posting"])

    def test_a_lost_lease_stops_the_handler_and_nothing_is_reported(self) -> None:
        stopped = threading.Event()

        def handler(ctx: Context) -> None:
            try:
                while True:
                    ctx.wait_cancelled(10)
                    ctx.raise_if_cancelled()
            except LeaseLost:
                stopped.set()
                raise Failure("late", "nobody wants to know") from None

        worker = self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "lost")
        self.assertTrue(stopped.wait(10))
        self.join(worker)
        self.assertEqual((self.fake.ends(), self.fake.of(ACK)), ([], []))

    def test_an_interrupt_is_the_harder_word(self) -> None:
        heard: list[bool] = []

        def handler(ctx: Context) -> None:
            try:
                while not ctx.interrupted:  # it ignores the first
                    time.sleep(0.01)
            finally:
                heard.append(ctx.interrupted)
            ctx.raise_if_cancelled()

        self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "cancel")
        self.fake.direct(0, "interrupt")
        self.assertEqual(self.ended()[0]["outcome"], "cancelled")
        self.assertEqual(heard, [True])

    def test_an_unknown_directive_is_left_alone(self) -> None:
        go_on = threading.Event()
        self.work(lambda ctx: Done("through") if go_on.wait(10) and not ctx.cancelled() else None)
        self.fake.until(lambda: self.fake.of(BEAT))
        self.fake.direct(0, "dance")
        self.fake.until(lambda: len(self.fake.of(BEAT)) > 2)
        go_on.set()
        self.assertEqual(self.ended()[0]["message"], "through")

    def test_progress_is_throttled_and_the_last_is_told_before_the_end(self) -> None:
        def handler(ctx: Context) -> None:
            for n in range(1000):
                ctx.progress(n / 500, f"step {n}")

        self.work(handler)
        self.ended()
        told = [item["progress"] for body in self.fake.of(BEAT) for item in body["leases"] if "progress" in item]
        self.assertEqual(told[-1], {"fraction": 1.0, "message": "step 999"})
        self.assertLess(len(told), 20)


class LeaseTime(WorkerCase):
    """A worker never believes that it has a lease for longer than the server says."""

    LEFT_S = 1.0

    def lease_for(self, handler: Handler, beat: Callable[[int, Any], tuple]) -> float:
        """Works on one lease with `LEFT_S` left; `beat` answers the heartbeats, by number. When the lease was granted."""
        real, granted, beats = self.fake.answer, [], []

        def answer(path: str, body: Any) -> tuple:
            if path == BEAT:
                beats.append(body)
                return beat(len(beats), body)
            if path == LEASES and self.fake.to_lease:
                granted.append(time.monotonic())
            return real(path, body)

        self.fake.answer = answer  # type: ignore[method-assign]
        self.fake.to_lease = [{**lease(0), "left_ms": self.LEFT_S * 1000}]
        self.work(handler, leases=None)
        self.fake.until(lambda: self.fake.of(LEASES))
        return granted[0] if granted else time.monotonic()

    def silence(self) -> tuple:
        self.fake._park(lambda: False, 60)
        return ok({"directives": [], "left_ms": None})

    def renewed(self) -> tuple:
        return ok({"directives": [], "deadline": None, "left_ms": self.LEFT_S * 1000})

    def test_an_attempt_whose_heartbeats_are_not_answered_is_lost_before_its_lease_ends(self) -> None:
        stopped: SimpleQueue[float] = SimpleQueue()

        def handler(ctx: Context) -> None:
            ctx.wait_cancelled(5)
            stopped.put(time.monotonic())

        granted = self.lease_for(handler, lambda number, body: self.silence())
        self.assertLess(stopped.get(timeout=10) - granted, self.LEFT_S)
        self.assertEqual(self.fake.ends(), [])

    def test_a_renewal_counts_from_the_sending_of_its_heartbeat(self) -> None:
        stopped: SimpleQueue[float] = SimpleQueue()
        arrived: SimpleQueue[float] = SimpleQueue()

        def handler(ctx: Context) -> None:
            ctx.wait_cancelled(5)
            stopped.put(time.monotonic())

        def beat(number: int, body: Any) -> tuple:
            if number > 1:
                return self.silence()
            arrived.put(time.monotonic())
            time.sleep(0.25)  # the answer's way: that it takes time is the point
            return self.renewed()

        self.lease_for(handler, beat)
        self.assertLess(stopped.get(timeout=10) - arrived.get(), self.LEFT_S + 0.1)

    def test_a_short_lease_survives_a_heartbeat_that_is_never_answered(self) -> None:
        renewed = threading.Event()

        def handler(ctx: Context) -> Done:
            in_time = renewed.wait(5)
            ctx.raise_if_cancelled()
            return Done(str(in_time))

        def beat(number: int, body: Any) -> tuple:
            if number == 1:
                return self.silence()
            renewed.set()
            return self.renewed()

        self.lease_for(handler, beat)
        self.assertEqual(self.ended()[0]["message"], "True")


class Storms(WorkerCase):
    def test_rubbish_answers_are_asked_again(self) -> None:
        self.fake.instead[LEASES] = [
            (200, {}, b"\xff\xfe"),
            (200, {}, b"[" * 100_000),
            ok({"leases": [{"lease": 7}]}),
            ok({"leases": {"no": "list"}}),
            None,
        ]
        self.fake.instead[BEAT] = [ok({"directives": [None]}), ok(7), (200, {}, b""), (500, {}, b"<html>")]
        self.work(lambda ctx: Done() if ctx.wait_cancelled(1.5) else None)
        self.assertEqual(self.ended()[0]["outcome"], "succeeded")

    def test_a_refusal_of_the_worker_itself_ends_it(self) -> None:
        self.fake.instead[LEASES] = [problem(422, "invalid_request")]
        self.work(lambda ctx: None)
        self.thread.join(10)
        assert isinstance(self.raised, Problem)
        self.assertEqual((self.raised.code, self.raised.status), ("invalid_request", 422))

    def test_a_server_that_does_not_wait_is_not_flooded(self) -> None:
        self.fake.instead[LEASES] = [ok({"leases": []})] * 1000
        self.work(lambda ctx: None)
        time.sleep(0.6)
        self.assertLess(len(self.fake.of(LEASES)), 5)

    def test_after_a_sleep_the_server_is_asked_before_the_handler_goes_on(self) -> None:
        seen: list[str] = []
        looked = threading.Event()

        def handler(ctx: Context) -> None:
            looked.wait(10)
            try:
                ctx.raise_if_cancelled()
                seen.append("went on")
            except LeaseLost:
                seen.append("lost")

        worker = self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        # The lease ran out meanwhile; the parked heartbeat knows nothing of it.
        self.fake.directives[lease(0)["lease"]] = "lost"
        worker._last_tick -= 60
        looked.set()
        self.join(worker)
        self.assertEqual(seen, ["lost"])


class Asking(unittest.TestCase):
    def setUp(self) -> None:
        self.fake = FakeServer()
        self.addCleanup(self.fake.close)

    def test_a_call_without_an_answer_is_repeated_as_late_as_the_server_asks_for(self) -> None:
        task = {"id": "x", "status": "queued", "revision": 0, "position": 1}
        self.fake.instead["/v1/tasks/x"] = [
            None,
            problem(503, "busy", True, Retry_After="1"),
            problem(500, "internal", True),
            ok(task),
        ]
        began = time.monotonic()
        self.assertEqual(Client(self.fake.url).get("x")["id"], "x")
        self.assertGreaterEqual(time.monotonic() - began, 1.0)

    def test_and_until_the_callers_patience_ends(self) -> None:
        self.fake.instead["/v1/tasks/x"] = [problem(503, "busy", True)] * 99
        with self.assertRaises(Problem) as refused:
            Client(self.fake.url, patience_s=0.3).get("x")
        self.assertEqual(refused.exception.code, "busy")
        self.fake.instead["/v1/tasks/x"] = [ok({})]
        with self.assertRaises(Unreachable):
            Client(self.fake.url, patience_s=0).get("x")

    def test_a_position_that_the_log_has_not_reached_is_said_to_be_so_once(self) -> None:
        self.fake.instead["/v1/tasks/x"] = [problem(503, "behind", True, Retry_After="1")]
        with self.assertRaises(Problem) as refused:
            Client(self.fake.url).get("x", min_position=7)
        self.assertEqual((refused.exception.code, len(self.fake.asked)), ("behind", 1))


class Drain(WorkerCase):
    def test_what_runs_may_finish(self) -> None:
        drained = threading.Event()

        def handler(ctx: Context) -> Done:
            while not ctx.draining:
                time.sleep(0.01)
            drained.set()
            return Done("just in time")

        worker = self.work(handler)
        self.fake.until(lambda: self.fake.of(BEAT))
        worker.stop()
        self.fake.hurry()
        self.thread.join(10)
        self.assertTrue(drained.is_set())
        self.assertEqual(self.fake.ends()[0]["message"], "just in time")

    def test_what_does_not_is_handed_back_after_the_grace(self) -> None:
        over = threading.Event()
        worker = self.work(lambda ctx: Done("too late") if over.wait(10) else None, grace_s=0.2)
        self.fake.until(lambda: self.fake.of(BEAT))
        worker.stop()
        self.fake.hurry()
        self.thread.join(10)
        over.set()
        self.assertEqual([end["outcome"] for end in self.fake.ends()], ["released"])

    def test_a_lease_that_arrives_late_is_handed_back_and_not_begun(self) -> None:
        begun = threading.Event()
        worker = self.work(lambda ctx: begun.set(), leases=0)
        self.fake.until(lambda: self.fake.of(LEASES))
        worker.stop()
        with self.fake.changed:
            self.fake.to_lease = [lease(0)]
            self.fake.changed.notify_all()
        self.thread.join(10)
        self.assertEqual([end["outcome"] for end in self.fake.ends()], ["released"])
        self.assertFalse(begun.is_set())


def setUpModule() -> None:
    mock.patch.object(wire_module, "LONGEST_PAUSE_S", 0.2).start()


def tearDownModule() -> None:
    mock.patch.stopall()
