"""From what was written to a value of the declared type. Nothing is guessed, rounded or trimmed."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec.inspect import (
    BoolType,
    FloatType,
    IntType,
    LiteralType,
    NoneType,
    StrType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")
_BOOLS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def convert(value: object, kind: Any, *, text: bool) -> object:
    """Return `value` as the annotation `kind` has it.

    Args:
        value: what TOML gave, or a text.
        kind: an annotation of the model.
        text: whether `value` is a text to be read: true/false/1/0/yes/no, plain decimal numbers, lists
            separated by commas.

    Raises:
        ValueError: it is something else or out of range; the text says what would be right.
    """
    info = _given(type_info(kind))
    try:
        read = _read(value, info) if text and isinstance(value, str) else value
        return msgspec.convert(read, kind)
    except (msgspec.ValidationError, LookupError, ValueError):
        # The library's own words may hold the value; ours never do.
        raise ValueError(f"must be {expected(info)}") from None


def _given(info: Type) -> Type:
    """What a value is that is given at all: None is never written, it is what stands without one."""
    if not isinstance(info, UnionType):
        return info
    (given,) = (one for one in info.types if not isinstance(one, NoneType))
    return info if isinstance(given, StrType) else given  # what a text must be is said by its form


def expected(info: Type) -> str:
    """Say in words what a value of that type is."""
    match info:
        case BoolType():
            return "true or false"
        case IntType():
            return f"a whole number{_bounds(info)}"
        case FloatType():
            return f"a number{_bounds(info)}"
        case LiteralType(values=values):
            listed = [str(value) for value in values]
            return " or ".join(filter(None, (", ".join(listed[:-1]), listed[-1])))
        case VarTupleType(item_type=item):
            least = "" if not info.min_length else f" with at least {info.min_length} entries"
            most = "" if not info.max_length else f" with at most {info.max_length} entries"
            return f"a list{' and'.join(filter(None, (least, most)))}, each {expected(item)}"
        case _:
            return "a text that is not empty"


def _read(text: str, info: Type) -> object:
    match info:
        case BoolType():
            return _BOOLS[text.lower()]
        case IntType():
            return int(_matched(_WHOLE, text))
        case FloatType():
            return float(_matched(_NUMBER, text))
        case VarTupleType(item_type=item):
            parts = [part.strip() for part in text.split(",")] if text.strip() else []
            return tuple(_read(_not_empty(part), item) for part in parts)
        case StrType():
            return _not_empty(text)
        case _:
            return text


def _matched(form: re.Pattern[str], text: str) -> str:
    if form.fullmatch(text) is None:
        raise ValueError(form.pattern)
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("empty")
    return text


def _bounds(info: IntType | FloatType) -> str:
    low = f"from {info.ge:g}" if info.ge is not None else f"above {info.gt:g}" if info.gt is not None else ""
    high = f"to {info.le:g}" if info.le is not None else ""
    if isinstance(info, IntType):
        low, high = low and f"from {info.ge}", high and f"to {info.le}"
    if low.startswith("above") and high:
        high = f"and at most {info.le:g}"
    return "".join(f" {part}" for part in (low, high) if part)
