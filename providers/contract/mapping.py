"""Parameter tables applied to a request.

`unconveyable` names every option that a model's table cannot convey; `build_body` fills the create
body for a request that has none. Out-of-range values are refused, never clamped: a caller who asked
for 5 and silently got 4 has paid for something they did not ask for.
"""

from __future__ import annotations

from msgspec import Struct

from providers.contract.motion import MotionRequest, options
from providers.contract.reading import is_object
from providers.contract.spec import ModelSpec, ParamSpec, Scalar


class Unconveyable(Struct, frozen=True, kw_only=True):
    """An option that the provider cannot be told, and why."""

    option: str
    reason: str
    supported: tuple[str, ...] = ()
    """The values that could be conveyed, where they form a closed set."""


def unconveyable(model: ModelSpec, request: MotionRequest) -> tuple[Unconveyable, ...]:
    """Name every option of the request that this model's table cannot convey."""
    params = {param.option: param for param in model.params}
    found: list[Unconveyable] = []
    if request.character.type not in model.character_types:
        found.append(
            Unconveyable(
                option="character.type",
                reason=f"a character given as {request.character.type} is not accepted",
                supported=tuple(kind.value for kind in model.character_types),
            )
        )
    duration = request.reference.duration_s
    if duration is not None and not model.reference_min_s <= duration <= model.reference_max_s:
        found.append(
            Unconveyable(
                option="reference.duration_s",
                reason=f"{duration:g} s is outside {model.reference_min_s:g} to {model.reference_max_s:g} s",
            )
        )
    for path, value in options(request).items():
        if value is None or (found and any(problem.option == path for problem in found)):
            continue
        param = params.get(path)
        problem = _no_such_option(path) if param is None else _problem(param, value)
        if problem is not None:
            found.append(problem)
    return tuple(found)


def build_body(model: ModelSpec, request: MotionRequest) -> dict[str, object]:
    """Return the create body: every constant and every option that has a field, sent explicitly.

    Raises:
        ValueError: an option cannot be conveyed; ask `unconveyable` first.
    """
    problems = unconveyable(model, request)
    if problems:
        raise ValueError("; ".join(f"{problem.option}: {problem.reason}" for problem in problems))
    body: dict[str, object] = {}
    for constant in model.constants:
        _put(body, constant.field, constant.value)
    values = options(request)
    for param in model.params:
        value = values[param.option]
        if value is not None and param.field:
            _put(body, param.field, param.values[spelled(value)] if param.values is not None else value)
    return body


def spelled(value: Scalar) -> str:
    """Return the key of a value of ours in `ParamSpec.values`; booleans as JSON spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _no_such_option(path: str) -> Unconveyable:
    return Unconveyable(option=path, reason="the provider has no such option")


def _problem(param: ParamSpec, value: Scalar) -> Unconveyable | None:
    if not param.field and value != param.implied:
        supported = () if param.implied is None else (spelled(param.implied),)
        reason = "the provider has no such option"
        if param.implied is not None:
            reason += f" and behaves as {spelled(param.implied)}"
        return Unconveyable(option=param.option, reason=reason, supported=supported)
    if param.values is not None and spelled(value) not in param.values:
        reason = f"{spelled(value)} is not offered"
        return Unconveyable(option=param.option, reason=reason, supported=tuple(param.values))
    if isinstance(value, int) and not isinstance(value, bool):
        low, high = param.minimum, param.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            return Unconveyable(option=param.option, reason=f"{value} is outside {_range(low, high)}")
    if isinstance(value, str) and param.max_length is not None and len(value) > param.max_length:
        reason = f"{len(value)} characters are more than {param.max_length}"
        return Unconveyable(option=param.option, reason=reason)
    return None


def _range(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"the values up to {high}" if low is None else f"the values from {low}"


def _put(body: dict[str, object], field: tuple[str, ...], value: Scalar) -> None:
    *parents, last = field
    for name in parents:
        nested = body.setdefault(name, {})
        if not is_object(nested):
            raise TypeError(f"{'.'.join(field)} goes through {name}, which is not an object")
        body = nested
    body[last] = value
