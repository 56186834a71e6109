"""What the generator of requests must know beyond the description of the API.

JSON Schema counts characters; the server counts bytes. `x-max-bytes` has the limit in bytes, which the generator does not know.
"""

import schemathesis

# A request that waits holds the run up, and a followed log never ends.
WAIT_MAX_S = 0.05
POSITION_MAX = 2**64 - 1
# The smallest `x-max-bytes` of the API.
SHORTEST_LIMIT = 64
# Values of the right form that the server may refuse: a cursor of another list, a position after the head, a moment that the log
# does not have, a cron expression or a time zone without meaning, a parent that does not exist, an origin that no setting allows, a time in the
# past.
JUDGED_BY_THE_SERVER = {"/query/cursor", "/query/as_of", "/position", "/cron", "/time_zone", "/parent", "/origin", "/expires_at"}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes each request short. What is invalid in it stays invalid."""
    body = case.body
    if case.path.startswith("/v1/leases") and isinstance(body, dict):
        wait = body.get("wait_s", 30 if case.path == "/v1/leases" else 0)
        if wait is None or (isinstance(wait, (int, float)) and not isinstance(wait, bool) and WAIT_MAX_S < wait <= 30):
            case.body = {**body, "wait_s": WAIT_MAX_S}
    query = case.query if isinstance(case.query, dict) else {}
    if str(query.get("follow")).lower() == "true":
        del query["follow"]
    position = str(query.get("min_position", ""))
    if position.isdigit() and 1 < int(position) <= POSITION_MAX:
        query["min_position"] = 1


@schemathesis.hook
def filter_case(context, case):
    """Drops long texts of several bytes for each character."""
    return not any(is_long_and_wide(text) for text in texts((case.query, case.body)))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops a failure that says that a valid value was refused, if only the server can know that it is refused."""
    if type(failure).__name__ != "RejectedPositiveData" or response.status_code != 422:
        return True
    return not all(is_judged_by_the_server(error) for error in response.json()["errors"])


def is_judged_by_the_server(error):
    # JSON Schema takes 5.0 for a whole number. The server needs it to be written as one.
    return error["pointer"] in JUDGED_BY_THE_SERVER or error["detail"].startswith("invalid type: floating point")


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield str(name)
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def is_long_and_wide(text):
    return SHORTEST_LIMIT < len(text.encode(errors="replace")) != len(text)
