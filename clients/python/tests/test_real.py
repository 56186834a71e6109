"""Client and worker against the real server."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time

from taskbell import Cancelled, Client, Context, Done, Failure, LeaseLost, Problem, TaskbellError, Unreachable

from .server import HERE, RealCase

logging.getLogger("taskbell").setLevel(logging.CRITICAL)


class Asking(RealCase):
    def test_the_same_key_gives_the_same_task_and_another_body_is_refused(self) -> None:
        first = self.client.submit("nobody.does", {"n": 1}, title="One", idempotency_key="key", labels={"a": "b"})
        again = self.client.submit("nobody.does", {"n": 1}, title="One", idempotency_key="key", labels={"a": "b"})
        self.assertEqual((again["id"], again["labels"]), (first["id"], {"a": "b"}))
        with self.assertRaises(Problem) as refused:
            self.client.submit("nobody.does", {"n": 2}, title="One", idempotency_key="key", labels={"a": "b"})
        self.assertEqual((refused.exception.code, refused.exception.status), ("idempotency_key_reused", 422))
        self.assertFalse(refused.exception.retryable)

    def test_refusals_are_typed_and_name_the_field(self) -> None:
        with self.assertRaises(Problem) as refused:
            self.client.submit("No Kind", max_attempts=0)
        self.assertEqual([error["pointer"] for error in refused.exception.errors], ["/kind", "/max_attempts"])
        with self.assertRaises(Problem) as refused:
            self.client.get("../tasks")
        self.assertEqual((refused.exception.code, refused.exception.status), ("not_found", 404))
        with self.assertRaises(ValueError):
            self.client.submit("nobody.does", float("nan"))
        with self.assertRaises(ValueError):
            Client("localhost:7070")
        with self.assertRaises(Unreachable) as nobody:
            Client("http://127.0.0.1:9", patience_s=0.1).get("x")
        self.assertIsInstance(nobody.exception, TaskbellError)

    def test_who_waits_hears_of_the_end_and_not_before(self) -> None:
        task = self.client.submit("nobody.does")
        with self.assertRaises(TimeoutError):
            self.client.wait(task["id"], timeout_s=0.2)
        threading.Timer(0.3, lambda: self.client.cancel(task["id"], "changed my mind")).start()
        ended = self.client.wait(task["id"], timeout_s=10)
        self.assertEqual(ended["status"], "cancelled")
        assert ended["cancel"] is not None
        self.assertEqual(ended["cancel"]["reason"], "changed my mind")
        self.assertEqual(self.client.cancel(task["id"])["status"], "cancelled")


class Working(RealCase):
    def test_a_task_is_done_with_its_message_result_and_last_progress(self) -> None:
        def handler(ctx: Context) -> Done:
            self.assertEqual((ctx.kind, ctx.title, ctx.attempt, ctx.labels), ("py.sum", "Sum", 1, {"for": "anna"}))
            ctx.progress(7.5, "all of\nit")
            return Done("added", result=sum(ctx.input))

        self.work({"py.sum": handler})
        task = self.client.submit("py.sum", [1, 2, 3], title="Sum", labels={"for": "anna"})
        task = self.client.wait(task["id"], timeout_s=20)
        assert task["outcome"] and task["progress"]
        self.assertEqual((task["status"], task["outcome"]["message"], task["result"]), ("succeeded", "added", 6))
        self.assertEqual((task["progress"]["fraction"], task["progress"]["message"]), (1.0, "all of it"))

    def test_many_are_each_done_once(self) -> None:
        done: list[int] = []
        self.work({"py.many": lambda ctx: done.append(ctx.input)}, concurrency=20)
        tasks = [self.client.submit("py.many", n) for n in range(200)]
        for task in tasks:
            self.assertEqual(self.client.wait(task["id"], timeout_s=30)["status"], "succeeded")
        self.assertEqual(sorted(done), list(range(200)))

    def test_a_failure_is_tried_again_unless_it_says_no(self) -> None:
        def flaky(ctx: Context) -> Done:
            if ctx.attempt == 1:
                raise ConnectionError("the other side is asleep")
            return Done()

        def fatal(ctx: Context) -> Done:
            raise Failure("no_such_image", "there is no image 7", retryable=False)

        self.work({"py.flaky": flaky, "py.fatal": fatal})
        flaky_id = self.client.submit("py.flaky", max_attempts=3)["id"]
        fatal_id = self.client.submit("py.fatal", max_attempts=3)["id"]
        task = self.client.wait(fatal_id, timeout_s=20)
        assert task["outcome"]
        self.assertEqual((task["status"], task["attempt"]), ("failed", 1))
        self.assertEqual(task["outcome"]["error"], {"code": "no_such_image", "message": "there is no image 7"})
        task = self.client.wait(flaky_id, timeout_s=20)
        self.assertEqual((task["status"], task["attempt"]), ("succeeded", 2))

    def test_a_result_that_is_too_large_is_a_failure_that_says_so(self) -> None:
        self.work({"py.large": lambda ctx: Done(result="x" * 5_000_000)})
        task = self.client.wait(self.client.submit("py.large", max_attempts=3)["id"], timeout_s=20)
        assert task["outcome"]
        self.assertEqual((task["status"], task["outcome"]["error"]["code"]), ("failed", "too_large"))
        self.assertEqual(task["attempt"], 1)

    def test_cancelled_without_a_request_is_a_failure(self) -> None:
        def handler(ctx: Context) -> None:
            raise Cancelled("I'd rather not")

        self.work({"py.moody": handler})
        task = self.client.wait(self.client.submit("py.moody")["id"], timeout_s=20)
        assert task["outcome"]
        self.assertEqual((task["status"], task["outcome"]["error"]["code"]), ("failed", "not_cancelling"))

    def test_a_cancel_reaches_a_handler_that_waits(self) -> None:
        def handler(ctx: Context) -> None:
            ctx.wait_cancelled(20)
            ctx.raise_if_cancelled()

        self.work({"py.wait": handler})
        task = self.client.submit("py.wait")
        self.until(task["id"], lambda t: t["status"] == "running")
        time.sleep(0.2)  # until a heartbeat waits for it: only then is the time below that of a cancel
        began = time.monotonic()
        self.client.cancel(task["id"])
        task = self.client.wait(task["id"], timeout_s=20)
        self.assertLess(time.monotonic() - began, 1.0)
        assert task["cancel"]
        self.assertEqual((task["status"], task["cancel"]["verdict"]), ("cancelled", "cancelled"))
        self.assertIsNotNone(task["cancel"]["acknowledged_at"])
        self.assertIsNone(task["cancel"]["stopping_after"])

    def test_a_cancel_during_a_step_shows_what_it_waits_for(self) -> None:
        go_on = threading.Event()

        def handler(ctx: Context) -> None:
            with ctx.blocking("writing image", expected_s=20):
                go_on.wait(20)
            ctx.raise_if_cancelled()

        self.work({"py.image": handler})
        task = self.client.submit("py.image")
        self.until(task["id"], lambda t: t["status"] == "running")
        self.client.cancel(task["id"])
        task = self.until(task["id"], lambda t: t["cancel"]["acknowledged_at"])
        assert task["cancel"]
        self.assertEqual((task["status"], task["cancel"]["stopping_after"]), ("cancelling", "writing image"))
        self.assertIsNotNone(task["cancel"]["expected_end"])
        go_on.set()
        self.assertEqual(self.client.wait(task["id"], timeout_s=20)["status"], "cancelled")

    def test_what_comes_after_the_end_is_refused_and_the_handler_told(self) -> None:
        told = threading.Event()
        leases: list[str] = []

        def handler(ctx: Context) -> Done:
            leases.append(ctx._lease.lease)
            try:
                while True:
                    ctx.wait_cancelled(20)
                    ctx.raise_if_cancelled()
            except LeaseLost:
                told.set()
            return Done("too late")

        self.work({"py.slow": handler})
        task = self.client.wait(self.client.submit("py.slow", timeout_s=1)["id"], timeout_s=20)
        assert task["outcome"]
        self.assertEqual((task["status"], task["outcome"]["error"]["code"]), ("failed", "timed_out"))
        self.assertTrue(told.wait(20))
        answer = self.server.post("/v1/leases/finish", {"items": [{"lease": leases[0], "outcome": "succeeded"}]})
        self.assertEqual(answer["items"][0]["problem"]["code"], "lease_lost")
        self.assertEqual(self.client.get(task["id"])["revision"], task["revision"])

    def test_an_interrupt_is_heard_after_a_cancel_that_was_ignored(self) -> None:
        def stubborn(ctx: Context) -> None:
            while not ctx.interrupted:
                time.sleep(0.01)
            ctx.raise_if_cancelled()

        self.work({"py.stubborn": stubborn})
        task = self.client.submit("py.stubborn")
        self.until(task["id"], lambda t: t["status"] == "running")
        self.client.cancel(task["id"])
        self.server.post(f"/v1/tasks/{task['id']}/escalate", {"rung": "interrupt"})
        task = self.client.wait(task["id"], timeout_s=20)
        assert task["cancel"]
        self.assertEqual((task["status"], task["cancel"]["rung"]), ("cancelled", "interrupt"))
        self.assertEqual(task["cancel"]["verdict"], "cancelled")


class Restarting(RealCase):
    def test_a_server_that_dies_in_the_middle_of_attempts_loses_none(self) -> None:
        ends_meanwhile, ends_later, ended = threading.Event(), threading.Event(), threading.Event()
        begun = threading.Barrier(3)  # only then the leases have arrived; until then they could be lost with the server

        def meanwhile(ctx: Context) -> Done:
            begun.wait(20)
            ends_meanwhile.wait(30)
            ended.set()
            return Done("while you were away", result=ctx.attempt)

        def later(ctx: Context) -> Done:
            begun.wait(20)
            ends_later.wait(30)
            ctx.raise_if_cancelled()
            return Done("when you were back", result=ctx.attempt)

        self.work({"py.meanwhile": meanwhile, "py.later": later})
        tasks = [self.client.submit(kind)["id"] for kind in ("py.meanwhile", "py.later")]
        begun.wait(20)
        self.server.kill()
        ends_meanwhile.set()
        self.assertTrue(ended.wait(10))
        time.sleep(1)
        self.server.start()
        self.assertEqual(self.client.wait(tasks[0], timeout_s=30)["status"], "succeeded")
        ends_later.set()
        for task_id in tasks:
            task = self.client.wait(task_id, timeout_s=30)
            self.assertEqual((task["status"], task["attempt"], task["result"]), ("succeeded", 1, 1))
            self.assertEqual(self.server.events(task_id), ["Created", "Started", "Completed"])


SLEEPER = """
from taskbell import *

def sleeper(ctx):
    if ctx.attempt > 1:
        return Done("the second time")
    try:
        while True:
            ctx.wait_cancelled(0.05)
            ctx.raise_if_cancelled()
    finally:
        print("told", flush=True)

Worker({"py.sleeper": sleeper}, wait_s=0.2).run()
"""


class Sleeping(RealCase):
    flags = ("--kind", "py.sleeper:lease_s=1")

    def test_a_worker_that_slept_too_long_hears_that_its_lease_is_lost(self) -> None:
        environ = {**os.environ, "TASKBELL_SERVER": self.server.url, "PYTHONPATH": str(HERE)}
        command = [sys.executable, "-c", SLEEPER]
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as worker:
            try:
                task_id = self.client.submit("py.sleeper", max_attempts=2)["id"]
                self.until(task_id, lambda t: t["status"] == "running")
                worker.send_signal(signal.SIGSTOP)
                self.until(task_id, lambda t: t["status"] != "running")
                worker.send_signal(signal.SIGCONT)
                assert worker.stdout is not None
                self.assertEqual(worker.stdout.readline(), b"told\n")
                task = self.client.wait(task_id, timeout_s=20)
                self.assertEqual((task["status"], task["attempt"]), ("succeeded", 2))
                events = ["Created", "Started", "AttemptFailed", "Queued", "Started", "Completed"]
                self.assertEqual(self.server.events(task_id), events)
            finally:
                worker.kill()


class Example(RealCase):
    def test_the_example_runs_and_is_what_the_readme_shows(self) -> None:
        example = HERE / "examples/report.py"
        shown = re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.S)
        self.assertIn(example.read_text(), shown)
        environ = {**os.environ, "TASKBELL_SERVER": self.server.url, "PYTHONPATH": str(HERE)}
        worker = subprocess.Popen([sys.executable, str(example)], env=environ)
        try:
            ask = [sys.executable, str(example), "ask"]
            asked = subprocess.run(ask, env=environ, stdout=subprocess.PIPE, timeout=30)
            self.assertIn(b"succeeded", asked.stdout)
            running = self.client.submit("report.render", {"pages": 30})["id"]
            self.until(running, lambda t: t["progress"])
            worker.send_signal(signal.SIGTERM)
            self.assertEqual(worker.wait(15), 0)
            self.assertEqual(self.client.get(running)["status"], "succeeded")
        finally:
            worker.kill()
            worker.wait()
