"""The errors of this package."""

from __future__ import annotations

from typing import Any


class TaskbellError(Exception):
    """Any error of this package."""


class Unreachable(TaskbellError):
    """No server answered, or none that is a Taskbell server, for as long as the caller was willing to try."""


class Problem(TaskbellError):
    """The server refused the request (RFC 9457). `code` is stable and meant for programs, `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str, retryable: bool, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{code}: {detail}" + "".join(f"; {e.get('pointer')}: {e.get('detail')}" for e in errors))
        self.status = status
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.errors = errors

    @classmethod
    def read(cls, status: int, body: Any) -> Problem:
        """From the body of a refusal. Where that is no problem, as from a proxy, the status says what it can."""
        body = body if isinstance(body, dict) else {}
        retryable, listed = body.get("retryable"), body.get("errors")
        return cls(
            status,
            str(body.get("code") or f"http_{status}"),
            str(body.get("detail") or "no details were given"),
            retryable if isinstance(retryable, bool) else status == 429 or status >= 500,
            [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else [],
        )
