"""Reads and subscribes with the official Python client: python check.py ADDRESS STREAM

The log holds three events: Queued and Started in STREAM, Queued in another stream. When "caught up" is printed, one more
Queued is appended to STREAM. Prints "passed" at the end.
"""

import json
import sys
from datetime import datetime, timezone

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient.exceptions import AccessDeniedError, NotFoundError


def types(events):
    return [event.type for event in events]


def refuses(error, call):
    try:
        call()
    except error:
        return True
    return False


def check_reads(client, stream):
    events = client.get_stream(stream)
    assert types(events) == ["Queued", "Started"], events
    assert [event.stream_position for event in events] == [0, 1], events
    assert json.loads(events[0].data)["reason"] == "run_at"
    assert json.loads(events[0].metadata)["actor"] == "ann"
    age = datetime.now(timezone.utc) - events[0].recorded_at
    assert abs(age.total_seconds()) < 60, events[0].recorded_at
    assert types(client.get_stream(stream, backwards=True, limit=1)) == ["Started"]
    assert refuses(NotFoundError, lambda: client.get_stream("task-missing"))

    # The default filter looks ahead: it leaves out the events of the system.
    assert [event.commit_position for event in client.read_all()] == [1, 2, 3]
    assert [event.commit_position for event in client.read_all(backwards=True, limit=2)] == [3, 2]
    mine = client.read_all(filter_include=[stream], filter_by_stream_name=True, filter_by_prefix=True)
    assert [event.commit_position for event in mine] == [1, 2]


def check_refused_write(client, stream):
    event = NewEvent(type="Mine", data=b"{}")
    append = lambda: client.append_to_stream(stream, current_version=StreamState.ANY, events=event)
    assert refuses(AccessDeniedError, append)


def check_subscription(client, stream):
    seen = []
    with client.subscribe_to_all(
        filter_include=[stream], filter_by_stream_name=True, filter_by_prefix=True, include_caught_up=True
    ) as subscription:
        for event in subscription:
            if event.is_caught_up:
                assert event.commit_position == 3, event
                print("caught up", flush=True)
            else:
                seen.append(event.type)
            if len(seen) == 3:
                break
    assert seen == ["Queued", "Started", "Queued"], seen


def main(address, stream):
    client = KurrentDBClient(uri=f"kdb://{address}?Tls=false")
    check_reads(client, stream)
    check_refused_write(client, stream)
    check_subscription(client, stream)
    client.close()
    print("passed", flush=True)


main(*sys.argv[1:])
