"""Client and worker over https, with the authority of the tests."""

from __future__ import annotations

import os
import time
import unittest
from unittest import mock

from taskbell import Client, Context, Done, Unreachable

from .server import HERE, RealCase, Server

CERTS = HERE.parents[1] / "tests/tls/certs"
CA_FILE = str(CERTS / "ca.pem")


class OverTls(RealCase):
    flags = ("--tls-cert", str(CERTS / "first.pem"), "--tls-key", str(CERTS / "first.key"))

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.client = Client(cls.server.url, ca_file=CA_FILE)

    def test_a_task_is_submitted_done_and_waited_for(self) -> None:
        self.assertTrue(self.server.url.startswith("https://"), self.server.url)
        self.work({"py.double": lambda ctx: Done(result=ctx.input * 2)})
        task = self.client.wait(self.client.submit("py.double", 21)["id"], timeout_s=20)
        self.assertEqual((task["status"], task["result"]), ("succeeded", 42))

    def test_a_running_task_is_cancelled(self) -> None:
        def forever(ctx: Context) -> Done:
            while True:
                ctx.raise_if_cancelled()
                time.sleep(0.01)

        self.work({"py.forever": forever})
        task = self.client.submit("py.forever")
        self.until(task["id"], lambda task: task["status"] == "running")
        self.client.cancel(task["id"])
        self.assertEqual(self.client.wait(task["id"], timeout_s=20)["status"], "cancelled")

    def test_the_variable_names_the_file(self) -> None:
        with mock.patch.dict(os.environ, {"TASKBELL_CA_FILE": CA_FILE}):
            client = Client(self.server.url)
        self.assertEqual(client.submit("nobody.does")["status"], "queued")

    def test_a_server_that_is_not_trusted_gets_no_request(self) -> None:
        for ca_file in [None, str(CERTS / "other-ca.pem")]:
            with self.assertRaisesRegex(Unreachable, "certificate"):
                Client(self.server.url, ca_file=ca_file, patience_s=0.1).submit("nobody.does")
        elsewhere = Server("--tls-cert", str(CERTS / "elsewhere.pem"), "--tls-key", str(CERTS / "elsewhere.key"))
        self.addCleanup(elsewhere.close)
        with self.assertRaisesRegex(Unreachable, "certificate"):
            Client(elsewhere.url, ca_file=CA_FILE, patience_s=0.1).submit("nobody.does")
        with self.assertRaises(FileNotFoundError):
            Client(self.server.url, ca_file="/nowhere/ca.pem")


if __name__ == "__main__":
    unittest.main()
