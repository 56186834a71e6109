"""A worker that is written from the contract alone, for the soak, which kills it.

It takes up to 50 leases at once and only reports their ends, in batches: mostly successes, some failures, some handed
back, some forgotten until they expire. It repeats its requests while the server is away. It writes each answer to a
finish to its journal, one line each, for the checker, and what must never happen as "violation".

    worker.py URL NAME SEED JOURNAL
"""

import http.client
import json
import random
import sys
import time
import urllib.parse

AT_ONCE = 50
URL, NAME, SEED, JOURNAL = sys.argv[1:]
HOST = urllib.parse.urlsplit(URL).netloc
chance = random.Random(int(SEED))


class Journal:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1, encoding="utf-8")

    def note(self, **what):
        self.file.write(json.dumps(what) + "\n")

    def must(self, holds, why):
        if not holds:
            self.note(violation=why)


class Server:
    """One connection, made anew whenever it breaks."""

    def __init__(self):
        self.connection = None

    def post(self, path, body):
        """Repeats the request until the answer is not 503."""
        while True:
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection(HOST, timeout=40)
                self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
                answer = self.connection.getresponse()
                text = answer.read()
                if answer.status == 503:
                    time.sleep(0.05)
                    continue
                return answer.status, json.loads(text) if text else None
            except (OSError, http.client.HTTPException):
                if self.connection is not None:
                    self.connection.close()
                self.connection = None
                time.sleep(0.05)


class Attempt:
    """A lease, and how this worker will end it."""

    def __init__(self, lease):
        self.lease = lease["lease"]
        self.kind = lease["kind"]
        # How many rounds it takes.
        self.rounds = chance.randrange(1, 4) if chance.random() < 0.8 else chance.randrange(4, 20)
        self.seen = None
        self.forgotten = chance.random() < 0.005
        self.ignores_cancel = chance.random() < 0.1
        draw = chance.random()
        if draw < 0.94:
            self.end = {"outcome": "succeeded", "message": "done", "result": {"draw": draw}}
        elif draw < 0.97:
            self.end = {"outcome": "failed", "error": {"code": "dice", "message": "the dice said so"}}
        elif draw < 0.98:
            error = {"code": "hopeless", "message": "the dice said so, for ever"}
            self.end = {"outcome": "failed", "error": error, "retryable": False}
        else:
            self.end = {"outcome": "released"}

    def directed(self, directive, worker):
        if directive == "lost":
            worker.held.pop(self.lease, None)
        elif directive in ("cancel", "interrupt") and self.seen != directive:
            self.seen = directive if chance.random() < 0.8 else None
            if self.ignores_cancel:
                # Long enough for the whole ladder of its kind; else it ends when it is done.
                self.rounds = 60 if self.kind == "soak.ladder" else self.rounds
                return
            if chance.random() < 0.5:
                worker.acknowledge(self)
            self.end = {"outcome": "cancelled", "message": "stopped half-way"}
            self.rounds = min(self.rounds, 1)


class Worker:
    def __init__(self):
        self.server, self.journal, self.held = Server(), Journal(JOURNAL), {}

    def take(self):
        room = AT_ONCE - len(self.held)
        wait = 0 if self.held else 1
        body = {"worker": NAME, "kinds": ["soak.plain", "soak.ladder"], "max": room, "wait_s": wait}
        status, answer = self.server.post("/v1/leases", body)
        self.journal.must(status == 200, f"take: {status} {answer}")
        self.journal.must(len(answer["leases"]) <= room, "more leases than were asked for")
        for lease in answer["leases"]:
            attempt = Attempt(lease)
            self.journal.note(took=lease["task_id"], attempt=lease["attempt"])
            self.held[attempt.lease] = attempt

    def heartbeat(self):
        beats = []
        for attempt in self.held.values():
            if attempt.forgotten:
                continue
            progress = {"fraction": chance.random(), "message": "so far"}
            beats.append({"lease": attempt.lease, "progress": progress, "seen": attempt.seen})
        wait = chance.choice([0, 0.01, 0.05])
        status, answer = self.server.post(
            "/v1/leases/heartbeat", {"worker": NAME, "leases": beats, "wait_s": wait})
        self.journal.must(status == 200, f"heartbeat: {status} {answer}")
        for told in answer["directives"]:
            attempt = self.held.get(told["lease"])
            if attempt:
                attempt.directed(told["directive"], self)

    def acknowledge(self, attempt):
        body = {"lease": attempt.lease, "stopping_after": chance.choice([None, "the last file"])}
        status, answer = self.server.post("/v1/leases/cancel-ack", body)
        known = status == 204 or (status == 409 and answer["code"] in ("lease_lost", "not_cancelling"))
        self.journal.must(known, f"cancel-ack: {status} {answer}")

    def finish(self):
        done = []
        for attempt in list(self.held.values()):
            attempt.rounds -= 1
            if attempt.forgotten and attempt.rounds > -100:
                continue
            if attempt.rounds <= 0:
                done.append(attempt)
        if not done:
            return
        items = [{"lease": attempt.lease, **attempt.end} for attempt in done]
        first = self.finished(items)
        if chance.random() < 0.2:
            # Sent again with another outcome: the answers stay the same, unless the first ones were refusals.
            again = [{"lease": attempt.lease, "outcome": "failed", "error": {"code": "no", "message": "no"}}
                     for attempt in done]
            second = self.finished(again)
            for lease, one, two in zip([a.lease for a in done], first, second):
                settled = "status" in one or one["problem"]["code"] == "lease_lost"
                same = one.get("status") == two.get("status") and (
                    "status" in one or one["problem"]["code"] == two["problem"]["code"])
                self.journal.must(same or not settled, f"{lease[:40]}: first {one}, then {two}")
                if not settled:
                    self.end(lease, two)
        for attempt, answer in zip(done, first):
            if "problem" in answer and answer["problem"]["code"] == "not_cancelling":
                # A cancel was requested, so this must not happen.
                self.journal.must(False, f"not_cancelling: {attempt.lease[:40]}")
            self.end(attempt.lease, answer)

    def end(self, lease, answer):
        self.held.pop(lease, None)
        task, attempt, _ = lease.split(".")
        response = answer.get("status") or answer["problem"]["code"]
        self.journal.note(finished=task, attempt=int(attempt), response=response)

    def finished(self, items):
        status, answer = self.server.post("/v1/leases/finish", {"items": items})
        if status != 200:
            self.journal.note(violation=f"finish: {status} {answer}")
            raise SystemExit(1)
        self.journal.must(len(answer["items"]) == len(items), "an answer for each item")
        return answer["items"]


worker = Worker()
while True:
    worker.take()
    worker.heartbeat()
    worker.finish()
