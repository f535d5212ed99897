"""An operation as the document has it."""

from __future__ import annotations

from gateway.api.openapi.operation import Operation
from gateway.api.openapi.parameters import Json
from gateway.api.problems import PROBLEMS
from gateway.api.replies import JSON, PROBLEM


def describe(operation: Operation) -> Json:
    """Return what stands under the operation's path and method."""
    described: Json = {"operationId": operation.id, "summary": operation.summary}
    if operation.all_parameters:
        described["parameters"] = list(operation.all_parameters)
    if operation.scope is not None:
        described["security"] = [{"key": []}]
        described["description"] = f"Needs the scope `{operation.scope}`."
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.told:
        described["description"] = f"{described.get('description', '')} {operation.told}".lstrip()
    described["responses"] = _answers(operation) | _problems(operation.all_refusals)
    return described


def _answers(operation: Operation) -> Json:
    answers: Json = {str(operation.status): _answer(operation)}
    for status, meaning in operation.or_status.items():
        document = {} if status == 204 else _answer(operation)
        answers[str(status)] = document | {"description": meaning}
    return answers


def _problems(slugs: tuple[str, ...]) -> Json:
    by_status: dict[int, list[str]] = {}
    for slug in slugs:
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    return {
        str(status): {
            "description": "Problem: " + ", ".join(f"`{slug}`" for slug in alike),
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, alike in sorted(by_status.items())
    }


def _answer(operation: Operation) -> Json:
    answer: Json = {"description": operation.summary, "content": _content(operation.answers)}
    if operation.headers or operation.at_times:
        text: Json = {"schema": {"type": "string"}}
        always = {name: text | {"required": True} for name in operation.headers}
        answer["headers"] = always | dict.fromkeys(operation.at_times, text)
    return answer


def _content(answers: type | str) -> Json:
    if isinstance(answers, str):
        return {answers: {"schema": {}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{answers.__name__}"}}}
