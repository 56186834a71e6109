"""Background tasks behind a bell: ask for work, see it, stop it (`Client`), and do it (`Worker`).

Read in this order: `errors`, `exact` (JSON whose numbers stay as written), `wire` (one call, repeated until it is
answered), `client`, `context` (one attempt, as its handler sees it), `ends` (how an attempt may end), `lease_time` (how
long a lease is held), `worker` (the three loops: take, listen, tell).
"""

from .client import FINAL, Client, Task
from .context import Cancelled, Context, Done, Failure, Interrupted, LeaseLost, Released
from .ends import Handler
from .errors import Problem, TaskbellError, Unreachable
from .exact import ExactNumber
from .worker import Worker

__all__ = [
    "FINAL",
    "Cancelled",
    "Client",
    "Context",
    "Done",
    "ExactNumber",
    "Failure",
    "Handler",
    "Interrupted",
    "LeaseLost",
    "Problem",
    "Released",
    "Task",
    "TaskbellError",
    "Unreachable",
    "Worker",
]
