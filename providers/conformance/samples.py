"""Made-up requests, options and refs that calls are built from."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from functools import cache
from itertools import islice, product
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import replace

from providers.contract.motion import OPTIONS, Character, CharacterType, MotionRequest, Reference
from providers.contract.spec import ModelSpec, Scalar, Spec

#: Refs that are visible ASCII, as every ref is, and that a careless path or query takes apart.
HOSTILE_REFS = (
    "a/b",
    "..%2f",
    "x:y/z",
    "-abc",
    "a?b=c#d",
    "a&generation_id=b",
    "a%00b",
    "a;b",
    "{a}",
    "+a=b",
)
PLAIN_REF = "0b9cf2a4-5d1e-4c6a-9f58-3a7e21d4c0b1"
ATTEMPT_ID = "att_conformance"

_MOST_OPTION_SETS = 32
_Part = TypeVar("_Part", bound=Struct)


def plain_request(model: ModelSpec, character: CharacterType) -> MotionRequest:
    """Return the plainest request for a model: every default, no seed."""
    return MotionRequest(
        model=model.name,
        character=Character(type=character, url="https://media.example/character"),
        reference=Reference(url="https://media.example/reference.mp4"),
    )


def variations(model: ModelSpec, request: MotionRequest) -> Iterator[tuple[str, MotionRequest]]:
    """Return the request once for every other value of every option, with the option's path."""
    for path in OPTIONS:
        for value in _values(model, path):
            varied = _with(request, path, value)
            if varied != request:
                yield path, varied


def option_sets(spec: Spec) -> tuple[dict[str, str], ...]:
    """Return every combination of the adapter's options, the defaults first, at most 32."""
    names = [option.name for option in spec.options]
    combinations = product(*(option.values for option in spec.options))
    return tuple(dict(zip(names, values, strict=True)) for values in islice(combinations, _MOST_OPTION_SETS))


@cache
def kind_of(path: str) -> object:
    """Return the declared type of one of `motion.OPTIONS`."""
    kind: object = MotionRequest
    for name in path.split("."):
        kind = get_type_hints(kind)[name]
    return kind


def choices(path: str) -> tuple[Scalar, ...] | None:
    """Return the values an option can take where they form a closed set, else None."""
    kind = kind_of(path)
    if get_origin(kind) is Literal:
        return get_args(kind)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    return (False, True) if kind is bool else None


def takes_numbers(path: str) -> bool:
    """Whether an option is an integer."""
    kind = kind_of(path)
    return kind is int or int in get_args(kind)


def _values(model: ModelSpec, path: str) -> tuple[Scalar, ...]:
    closed = choices(path)
    if closed is not None:
        return closed
    if not takes_numbers(path):
        return ("https://media.example/another",)
    param = next((param for param in model.params if param.option == path), None)
    low = 0 if param is None or param.minimum is None else param.minimum
    high = 5 if param is None or param.maximum is None else param.maximum
    return low, high, low - 1, high + 1


def _with(part: _Part, path: str, value: object) -> _Part:
    name, _, rest = path.partition(".")
    return replace(part, **{name: _with(getattr(part, name), rest, value) if rest else value})
