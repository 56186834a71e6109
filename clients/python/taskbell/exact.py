"""JSON whose numbers stay as they were written: `1.50` is not sent back as `1.5`, nor `1e400` as infinity.

An int keeps its value by itself. Any other number is read as an `ExactNumber`: a float that also has its text.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Callable

#: A number as JSON writes it.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
#: `int` refuses texts that are longer, because it would take long; older versions of Python refuse none.
_DIGITS_MAX = 4300
#: A text as JSON. One encoder for all: `json.dumps` would make another for each text.
_quoted = json.JSONEncoder(ensure_ascii=False).encode


class ExactNumber(float):
    """A number from JSON, with its text in `source`. Arithmetic gives plain floats; `Decimal(n.source)` is exact.

    As a float it may be rounded, and it is infinite beyond 1.8e308. As part of an input or a result it is sent as `source`.
    """

    source: str

    def __new__(cls, source: str) -> ExactNumber:
        if not _NUMBER.fullmatch(source):
            raise ValueError(f"not a number of JSON: {source[:40]!r}")
        number = super().__new__(cls, source)
        number.source = source
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.source,)  # for copies and pickles

    def __repr__(self) -> str:
        return self.source


def from_json(text: bytes) -> Any:
    """What the text says. Raises `ValueError` or `RecursionError` for what is no JSON."""
    return json.loads(text, parse_float=ExactNumber, parse_int=_integer, parse_constant=_refused)


def to_json(value: Any) -> bytes:
    """As it is sent. Raises `ValueError`, `TypeError` or `RecursionError` for what JSON has no words for (NaN, a value
    inside itself, half a surrogate pair)."""
    parts: list[str] = []
    _write(value, parts.append, set())
    return "".join(parts).encode()


def _integer(source: str) -> Any:
    """An int, unless that would lose the text (`-0`) or be refused for its length."""
    return ExactNumber(source) if source == "-0" or len(source) > _DIGITS_MAX else int(source)


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _write(value: Any, write: Callable[[str], Any], around: set[int]) -> None:
    if isinstance(value, str):
        write(_quoted(value))
    elif value is None or isinstance(value, bool):
        write("null" if value is None else "true" if value else "false")
    elif isinstance(value, (int, float, Decimal)):
        write(_number(value))
    elif isinstance(value, (dict, list, tuple)):
        if id(value) in around:
            raise ValueError("the value is part of itself")
        around.add(id(value))
        (_write_object if isinstance(value, dict) else _write_array)(value, write, around)
        around.remove(id(value))
    else:
        raise TypeError(f"a {type(value).__name__} is no JSON")


def _write_array(items: Any, write: Callable[[str], Any], around: set[int]) -> None:
    write("[")
    for place, item in enumerate(items):
        if place:
            write(",")
        _write(item, write, around)
    write("]")


def _write_object(members: dict[Any, Any], write: Callable[[str], Any], around: set[int]) -> None:
    write("{")
    for place, (name, item) in enumerate(members.items()):
        write(("," if place else "") + _quoted(_name(name)) + ":")
        _write(item, write, around)
    write("}")


def _name(name: Any) -> str:
    """The name of a member: a text, or a number, a truth value or None as text, as `json` does it."""
    if isinstance(name, str):
        return name
    if name is None or isinstance(name, (bool, int, float)):
        parts: list[str] = []
        _write(name, parts.append, set())
        return parts[0]
    raise TypeError(f"a {type(name).__name__} is no name of a member")


def _number(value: Any) -> str:
    if isinstance(value, ExactNumber):
        return value.source
    if isinstance(value, int):
        return int.__repr__(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON")
    return float.__repr__(value) if isinstance(value, float) else str(value)
