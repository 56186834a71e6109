"""The server's answers about leases, and how long a lease is held.

An answer says how much time is left to a lease, counted from the sending of the answer; no clocks are compared. The worker
must never believe that it has longer than that, but it doesn't know when the answer was sent. A heartbeat's answer was sent no
earlier than the heartbeat: its time counts from there. A request for leases may wait for long: its time counts from the arrival
of the answer, and half of it is a margin for the answer's way. The first heartbeat, which is sent at once, replaces that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, Optional

from .context import Context, Lease

#: The least that a heartbeat waits, in seconds.
BEAT_MIN_S = 0.05


def third_of_time_left(contexts: Iterable[Context]) -> float:
    """A third of the time that is left to the first of these leases, in seconds. A heartbeat waits so long for directives
    at most, and so long for its answer beyond that: if it is lost, a third is left for another, which waits for none."""
    return max((min(context._deadline for context in contexts) - time.monotonic()) / 3, BEAT_MIN_S)


def read_leases(answer: Any) -> list[tuple[Lease, float]]:
    """The leases, each with the time that is left to it, in seconds; infinite where an older server doesn't say."""
    leases = [Lease(**{field: item[field] for field in Lease.__dataclass_fields__}) for item in answer["leases"]]
    if any(not isinstance(lease.lease, str) or not isinstance(lease.kind, str) for lease in leases):
        raise TypeError("a lease and a kind are texts")
    return [(lease, _left_s(item.get("left_ms"), math.inf)) for lease, item in zip(leases, answer["leases"])]


def read_beat(answer: Any) -> tuple[list[tuple[str, str]], float]:
    """The directives by lease, and the time that is left to the first lease, in seconds."""
    directives = [(str(item["lease"]), str(item["directive"])) for item in answer["directives"]]
    return directives, _left_s(answer.get("left_ms"), -math.inf)


def _left_s(left_ms: Optional[float], absent: float) -> float:
    return absent if left_ms is None else float(left_ms) / 1000
