"""The real server, with a folder of its own; what is missing fails the tests."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path
from typing import Any, Callable

from taskbell import Client, Handler, Task, Worker

HERE = Path(__file__).resolve().parents[1]
BIN = os.environ.get("TASKBELL_BIN") or str(HERE.parents[1] / "target/debug/taskbell")


class Server:
    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self._folder = tempfile.TemporaryDirectory(prefix="taskbell-python-")
        self.url = ""
        self.start()

    def start(self) -> None:
        """On a free port; again on the same one, with the same data, after a `kill`."""
        listen = self.url.split("/")[-1] or "127.0.0.1:0"
        data = os.path.join(self._folder.name, "data")
        command = [BIN, "serve", "--listen", listen, "--data", data, *self._flags]
        environ = {**os.environ, "TASKBELL_LOG": "error"}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, cwd=self._folder.name)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.startswith("listening on "), said
        self.url = said.split()[-1]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()

    def events(self, task_id: str) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/v1/tasks/{task_id}/events") as answer:
            return [event["type"] for event in json.load(answer)["items"]]

    def post(self, path: str, body: Any) -> Any:
        sent = urllib.request.Request(self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(sent) as answer:
            return json.load(answer)


class RealCase(unittest.TestCase):
    """A server for each class of tests, a worker for each test that wants one."""

    flags: tuple[str, ...] = ()
    server: Server
    client: Client

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server(*cls.flags)
        cls.addClassCleanup(cls.server.close)
        cls.client = Client(cls.server.url)

    def work(self, handlers: dict[str, Handler], concurrency: int = 4) -> Worker:
        worker = Worker(handlers, self.client, concurrency=concurrency, grace_s=2, wait_s=0.2)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()

        def end() -> None:
            worker.stop()
            thread.join(10)
            self.assertFalse(thread.is_alive(), "the worker doesn't stop")

        self.addCleanup(end)
        return worker

    def until(self, task_id: str, holds: Callable[[Task], Any], timeout: float = 20.0) -> Task:
        """The task, as soon as this is true of it."""
        end = time.monotonic() + timeout
        while not holds(task := self.client.get(task_id)):
            self.assertLess(time.monotonic(), end, f"in vain: {task}")
            time.sleep(0.01)
        return task
