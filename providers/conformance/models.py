"""The models a provider sells, and how each option is conveyed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from providers.conformance.finding import Finding
from providers.conformance.samples import choices, plain_request, takes_numbers
from providers.contract.adapter import Adapter
from providers.contract.mapping import spelled, unconveyable
from providers.contract.motion import OPTIONS
from providers.contract.spec import ModelSpec, ParamSpec, Scalar

_NAME = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")


def check_models(adapter: Adapter) -> Iterator[Finding]:
    """Check every model's name, limits, price and parameter table."""
    models = adapter.spec.models
    if not models:
        yield Finding("declared.models", "spec.models", "is empty; a provider sells at least one model")
    for index, model in enumerate(models):
        where = f"spec.models[{model.name}]"
        if _NAME.fullmatch(model.name) is None or not model.upstream:
            problem = f"{model.name!r} for {model.upstream!r}: both names must be there, ours lower case"
            yield Finding("declared.models", where, problem)
        if any(model.name == other.name for other in models[:index]):
            yield Finding("declared.models", where, "is declared twice")
        yield from _check_limits(model, where)
        yield from _check_params(model, where)
        yield from _check_fields(model, where)
        yield from _check_usable(model, where)


def _check_limits(model: ModelSpec, where: str) -> Iterator[Finding]:
    shortest, longest = model.reference_min_s, model.reference_max_s
    if not 0 < shortest <= longest < math.inf:
        problem = (
            f"takes references of {shortest} to {longest} s; the least must be above 0, the most no less"
        )
        yield Finding("declared.durations", where, problem)
    if not 0 < model.typical_run_s < math.inf:
        yield Finding("declared.durations", where, f"typically runs {model.typical_run_s} s; must be above 0")
    if model.price.micro_usd_per_s <= 0 or model.price.minimum_micro_usd < 0:
        problem = "the price a second must be above 0, the least price not below"
        yield Finding("declared.price", f"{where}.price", problem)
    for name in ("image_max_bytes", "video_max_bytes"):
        size = getattr(model.media, name)
        if size is not None and size <= 0:
            problem = f"{name} is {size}; write None where no limit is known"
            yield Finding("declared.media", f"{where}.media", problem)


def _check_params(model: ModelSpec, where: str) -> Iterator[Finding]:
    listed = [param.option for param in model.params]
    for path in OPTIONS:
        if path not in listed:
            problem = "has no entry; where the provider has no such field, say so by an entry without one"
            yield Finding("declared.params", f"{where}.params[{path}]", problem)
    for index, param in enumerate(model.params):
        place = f"{where}.params[{param.option}]"
        if param.option not in OPTIONS:
            yield Finding("declared.params", place, f"is no option of ours; they are {', '.join(OPTIONS)}")
            continue
        if param.option in listed[:index]:
            yield Finding("declared.params", place, "has two entries")
        for problem in _param_problems(param):
            yield Finding("declared.params", place, problem)


def _param_problems(param: ParamSpec) -> Iterator[str]:
    closed = choices(param.option)
    possible = None if closed is None else {spelled(value) for value in closed}
    if param.values is not None:
        if not param.values:
            yield "has an empty table of values, so nothing could be conveyed"
        if not param.field:
            yield "has values but no field to send them in"
        unknown = sorted(set(param.values) - possible) if possible is not None else []
        if unknown:
            yield f"translates {', '.join(unknown)}, which is never asked for"
    if param.implied is not None and not _fits(param.option, param.implied, possible):
        yield f"implies {param.implied!r}, which is no value of this option"
    bounds = (param.minimum, param.maximum)
    if bounds != (None, None) and not takes_numbers(param.option):
        yield "has bounds, but is no number"
    if param.minimum is not None and param.maximum is not None and param.minimum > param.maximum:
        yield f"has a minimum of {param.minimum} above its maximum of {param.maximum}"
    if param.max_length is not None and (
        closed is not None or takes_numbers(param.option) or param.max_length < 1
    ):
        yield "has a length limit that cannot apply"


def _fits(path: str, value: Scalar, possible: set[str] | None) -> bool:
    if possible is not None:
        return spelled(value) in possible
    return type(value) is (int if takes_numbers(path) else str)


def _check_fields(model: ModelSpec, where: str) -> Iterator[Finding]:
    entries = [(f"constants[{'.'.join(constant.field)}]", constant.field) for constant in model.constants]
    entries += [(f"params[{param.option}]", param.field) for param in model.params if param.field]
    for index, (name, field) in enumerate(entries):
        if not field or not all(field):
            yield Finding("declared.fields", f"{where}.{name}", "has an empty field name")
        for other, taken in entries[:index]:
            shared = min(len(field), len(taken))
            if field[:shared] == taken[:shared]:
                problem = f"writes {'.'.join(field)} over what {other} put at {'.'.join(taken)}"
                yield Finding("declared.fields", f"{where}.{name}", problem)


def _check_usable(model: ModelSpec, where: str) -> Iterator[Finding]:
    kinds = model.character_types
    if not kinds or len(set(kinds)) != len(kinds):
        problem = f"{kinds} must name what a character may be given as, each once"
        yield Finding("declared.character-types", where, problem)
        return
    for kind in kinds:
        for lacking in unconveyable(model, plain_request(model, kind)):
            problem = f"a plain request cannot be conveyed: {lacking.option}: {lacking.reason}"
            yield Finding("declared.params", f"{where}.character_types[{kind}]", problem)
