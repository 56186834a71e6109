"""How an attempt ends: the end for what its handler did, and the one in its place if the server refuses that."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional

from .context import CODE_MAX, Cancelled, Context, Done, Failure, LeaseLost, Released, line
from .errors import Problem
from .exact import to_json

log = logging.getLogger("taskbell")

#: Does the work of one attempt. Any exception but those of `taskbell.context` is a failure that may be tried again.
Handler = Callable[[Context], Optional[Done]]

#: Leases of one heartbeat, ends of one batch; and the bytes of such a batch.
LEASES_MAX, ENDS_BYTES_MAX = 1000, 8 * 1024 * 1024


@dataclass(frozen=True)
class Ack:
    """An acknowledgement of a request to cancel."""

    context: Context
    body: dict[str, Any]


@dataclass(frozen=True)
class End:
    """How an attempt ended. `again`: sent in place of an end that the server refused."""

    context: Context
    body: dict[str, Any]
    again: bool = False


def run(handler: Handler, context: Context) -> Optional[dict[str, Any]]:
    """Runs the handler; the attempt's end, or None where its lease is lost and nothing is reported."""
    try:
        done = handler(context) or Done()
        return _checked({"outcome": "succeeded", "message": done.message, "result": done.result})
    except LeaseLost:
        return None
    except Released:
        return {"outcome": "released"}
    except Cancelled as stopped:
        return _checked({"outcome": "cancelled", "message": stopped.message, "result": stopped.result})
    except Failure as failure:
        return _failed(failure.code, failure.message, failure.retryable)
    except BaseException as error:
        log.exception("task %s, attempt %d", context.task_id, context.attempt)
        return _failed("exception", f"{type(error).__name__}: {error}", retryable=True)


def _checked(end: dict[str, Any]) -> dict[str, Any]:
    """An end as it can be sent. A cancelled attempt stays cancelled, even if its result can't be sent."""
    end["message"] = (end["message"] and line(str(end["message"]))) or None
    end = {field: value for field, value in end.items() if value is not None}
    try:
        to_json(end)
    except (ValueError, TypeError, RecursionError) as error:
        if end["outcome"] == "cancelled":
            return {"outcome": "cancelled"}
        return _failed("invalid_result", f"the result is no JSON: {error}", retryable=False)
    return end


def _failed(code: str, message: str, retryable: bool) -> dict[str, Any]:
    code = line(code, CODE_MAX) or "failed"
    return {"outcome": "failed", "error": {"code": code, "message": line(message) or code}, "retryable": retryable}


def batches(ends: list[End]) -> Iterator[list[End]]:
    batch: list[End] = []
    size = 0
    for end in ends:
        more = len(to_json(end.body))
        if batch and (len(batch) == LEASES_MAX or size + more > ENDS_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(end)
        size += more
    if batch:
        yield batch


def instead(end: End, refused: Problem) -> End:
    """The end in place of one that the server refuses: without any end the task would run again and again."""
    if end.body["outcome"] == "cancelled" and refused.code != "not_cancelling":
        return End(end.context, {"outcome": "cancelled"}, again=True)
    return End(end.context, _failed(refused.code, refused.detail, retryable=False), again=True)


def read_end(item: Any) -> Optional[Problem]:
    """The answer to one end: None if it is recorded."""
    if "status" in item:
        return None
    return Problem.read(int(item["problem"]["status"]), item["problem"])
