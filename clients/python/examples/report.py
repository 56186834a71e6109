"""Renders a report page by page behind the bell: `python report.py` is the worker, `python report.py ask` asks it."""

import sys
import time

from taskbell import Client, Context, Done, Failure, Worker


def render(ctx: Context) -> Done:
    pages = ctx.input["pages"]
    if pages > 500:
        raise Failure("too_long", "at most 500 pages", retryable=False)
    for page in range(1, pages + 1):
        ctx.raise_if_cancelled()  # the red cross, acknowledged here
        ctx.progress(page / pages, f"page {page} of {pages}")
        time.sleep(0.05)
    # Can't be taken back half-way: a cancel that arrives meanwhile is answered with this name and the expected end.
    with ctx.blocking("posting the report", expected_s=1):
        time.sleep(0.5)
    return Done(f"{pages} pages", result={"pages": pages})


if sys.argv[1:] == ["ask"]:
    client = Client()  # TASKBELL_SERVER, or http://127.0.0.1:7070
    task = client.submit("report.render", {"pages": 20}, title="Report for June", max_attempts=3)
    task = client.wait(task["id"])
    print(task["status"], task["outcome"], task["result"])
else:
    Worker({"report.render": render}, concurrency=4).run()  # until SIGTERM or Ctrl-C
