"""What a call can end with, besides its answer."""

from __future__ import annotations

from typing import Any


class TaskbellError(Exception):
    """Any error of this package."""


class Unreachable(TaskbellError):
    """Nobody answered, or what answered is no Taskbell, for as long as the caller was willing to try."""


class Problem(TaskbellError):
    """The server said no (RFC 9457). `code` is stable and meant for programs, `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str, retryable: bool, errors: list[dict[str, str]]) -> None:
        super().__init__(f"{code}: {detail}" + "".join(f"; {e.get('pointer')}: {e.get('detail')}" for e in errors))
        self.status = status
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.errors = errors

    @classmethod
    def read(cls, status: int, said: Any) -> Problem:
        """From the body of a refusal, or from whatever stood in its place."""
        said = said if isinstance(said, dict) else {}
        listed = said.get("errors")
        return cls(
            status,
            str(said.get("code") or f"http_{status}"),
            str(said.get("detail") or "no details were given"),
            said.get("retryable") is True or status == 429 or status >= 500,
            [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else [],
        )
