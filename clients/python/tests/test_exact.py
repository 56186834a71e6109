"""Numbers stay as they were written, on their way from an input through a handler to a result."""

from __future__ import annotations

import copy
import json
import math
import pickle
import unittest
from decimal import Decimal
from typing import Any

from taskbell import Client, Context, Done, ExactNumber, Handler
from taskbell.exact import from_json, to_json

from .fake import FINISH, LEASES, lease
from .server import RealCase
from .test_worker import WorkerCase

#: Texts of numbers, most of which a float or an int would write in another way.
NUMBERS = [
    *("0", "-0", "1", "-7", "1.0", "1.50", "-0.0", "0.1000000000000000055", "1E5", "1e5", "1e+05", "1e400", "-1e400"),
    *("1e-400", "9007199254740993", "18446744073709551616", "123456789012345678901234567890", "9" * 5000),
]
TEXT = '{"n":[' + ",".join(NUMBERS) + '],"__proto__":{"x":1.50},"":"1.50"}'


def leased(number: int, text: str) -> tuple[int, dict[str, str], bytes]:
    """A lease whose input is this text."""
    marked = json.dumps({"leases": [lease(number, input="INPUT")], "position": 1})
    return 200, {}, marked.replace('"INPUT"', text).encode()


class Numbers(WorkerCase):
    def result_of(self, handler: Handler, text: str) -> str:
        """The text of the result that is sent for an input with this text."""
        self.fake.instead[LEASES] = [leased(0, text)]
        self.work(handler, leases=None)
        self.ended()
        sent = [body for (path, _), body in zip(self.fake.asked, self.fake.texts) if path == FINISH]
        return sent[0].decode().split('"result":', 1)[1][: -len("}]}")]

    def test_an_input_that_is_returned_as_the_result_has_the_same_text(self) -> None:
        self.assertEqual(self.result_of(lambda ctx: Done(result=ctx.input), TEXT), TEXT)

    def test_so_has_a_part_of_it_in_another_value_or_in_a_copy(self) -> None:
        def handler(ctx: Context) -> Done:
            return Done(result=[ctx.input["a"], {"b": copy.deepcopy(ctx.input)}, pickle.loads(pickle.dumps(ctx.input))])

        text = '{"a":1.50,"b":1e400}'
        self.assertEqual(self.result_of(handler, text), f'[1.50,{{"b":{text}}},{text}]')

    def test_a_handler_calculates_with_the_numbers_as_with_others(self) -> None:
        def handler(ctx: Context) -> Done:
            a, b, n = ctx.input
            return Done(result=[a + b, a * 2, math.floor(a), f"{a:.1f}", a == 1.5, n + 1, Decimal(a.source) + 1])

        text = self.result_of(handler, "[1.50,2.5,123456789012345678901234567890]")
        self.assertEqual(text, '[4.0,3.0,1,"1.5",true,123456789012345678901234567891,2.50]')


class Asking(WorkerCase):
    def test_a_task_that_is_read_and_handed_in_again_has_the_same_numbers(self) -> None:
        task = b'{"id":"a","status":"queued","revision":0,"position":1,"input":' + TEXT.encode() + b"}"
        self.fake.instead["/v1/tasks/a"] = self.fake.instead["/v1/tasks"] = [(200, {}, task)] * 2
        client = Client(self.fake.url)
        client.submit("test", client.get("a")["input"])
        self.assertIn(b'"input":' + TEXT.encode(), self.fake.texts[-1])


class Json(unittest.TestCase):
    def test_values_are_written_as_the_json_module_writes_them(self) -> None:
        value = {"a": [1, -2.5, 1e22, 1e-7, True, None, "é\u2028\n\"\\", (), {}], 1: [], None: 0, 2.5: {"b": [[]]}}
        self.assertEqual(to_json(value), json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())

    def test_what_json_has_no_words_for_is_refused(self) -> None:
        inside: list[Any] = []
        inside.append(inside)
        for value in (math.nan, math.inf, Decimal("NaN"), inside, "\ud800", {(): 1}, b"", {1}, object()):
            with self.assertRaises((ValueError, TypeError), msg=repr(value)):
                to_json(value)
        for text in (b"NaN", b"[Infinity]", b"01", b"1.", b".5", b"+1", b"", b"1 2"):
            with self.assertRaises(ValueError, msg=repr(text)):
                from_json(text)
        for source in ("NaN", "1.", "1\n", "\u0661", " 1", "1,2"):
            with self.assertRaises(ValueError, msg=source):
                ExactNumber(source)

    def test_the_same_list_twice_is_no_circle(self) -> None:
        twice = [1]
        self.assertEqual(to_json([twice, twice]), b"[[1],[1]]")


class Whole(RealCase):
    def test_numbers_are_the_same_from_the_submit_to_the_result(self) -> None:
        self.work({"test.exact": lambda ctx: Done(result=ctx.input)})
        sent = from_json(TEXT.encode())
        task = self.client.wait(self.client.submit("test.exact", sent)["id"], timeout_s=20)
        self.assertEqual(task["status"], "succeeded", task)
        self.assertEqual((to_json(task["input"]), to_json(task["result"])), (TEXT.encode(), TEXT.encode()))


del WorkerCase  # its tests stand in another file
