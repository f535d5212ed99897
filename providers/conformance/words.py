"""The tables that translate: status words and failure rules."""

from __future__ import annotations

from collections.abc import Iterator

from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.errors import ErrorCode
from providers.contract.spec import FailureRule, Spec
from providers.contract.status import JobStatus

#: Codes that say how the gateway itself ended a job; no reply means them.
OURS = frozenset(
    {
        ErrorCode.PROVIDER_CONTRACT,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.SUBMISSION_UNKNOWN,
        ErrorCode.PROVIDER_LOST,
        ErrorCode.NO_PROVIDER,
    }
)

#: Statuses every provider has a word for; not every one can cancel.
NEEDED = (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.FAILED)


def check_words(adapter: Adapter) -> Iterator[Finding]:
    """Check status words and failure rules."""
    yield from _check_statuses(adapter.spec)
    for index, rule in enumerate(adapter.spec.failures):
        where = f"spec.failures[{index}]"
        problem = _rule_problem(rule)
        if problem is not None:
            yield Finding("declared.failure-rules", where, problem)
            continue
        earlier = adapter.spec.failures[:index]
        shadow = next((number for number, wider in enumerate(earlier) if _covers(wider, rule)), None)
        if shadow is not None:
            problem = (
                f"is never reached: rule {shadow} before it matches the same; move it up or leave it out"
            )
            yield Finding("declared.failure-rules", where, problem)


def _check_statuses(spec: Spec) -> Iterator[Finding]:
    seen: set[str] = set()
    for entry in spec.statuses:
        where = f"spec.statuses[{entry.word}]"
        folded = entry.word.strip().casefold()
        if not folded or entry.word != entry.word.strip():
            yield Finding("declared.status-words", where, "is empty or has blanks around it")
        if folded in seen:
            yield Finding("declared.status-words", where, "stands twice; words are compared without case")
        seen.add(folded)
        if entry.slow and entry.means.terminal:
            yield Finding("declared.status-words", where, "is final, so it cannot be slow")
    for status in NEEDED:
        if not any(entry.means == status for entry in spec.statuses):
            problem = f"no word means {status}; a job could never be seen to be {status}"
            yield Finding("declared.status-words", "spec.statuses", problem)


def _rule_problem(rule: FailureRule) -> str | None:
    conditions = (rule.provider_code, rule.http_status, rule.message_contains, rule.transient or None)
    if all(condition is None for condition in conditions):
        return "has no condition; give provider_code, http_status, message_contains or transient"
    if rule.provider_code in {"", "."} or (
        rule.message_contains is not None and not rule.message_contains.strip()
    ):
        return "has an empty condition, which says nothing"
    if rule.http_status is not None and not 300 <= rule.http_status <= 599:
        return f"waits for HTTP {rule.http_status}, but a failure has a status from 300 to 599"
    if rule.code in OURS:
        return f"gives {rule.code}, which only the gateway itself can say of a job"
    return None


def _covers(wider: FailureRule, rule: FailureRule) -> bool:
    return (
        _code_covers(wider.provider_code, rule.provider_code)
        and wider.http_status in {None, rule.http_status}
        and (rule.transient or not wider.transient)
        and (
            wider.message_contains is None
            or (
                rule.message_contains is not None
                and wider.message_contains.casefold() in rule.message_contains.casefold()
            )
        )
    )


def _code_covers(wider: str | None, code: str | None) -> bool:
    if wider is None or wider == code:
        return True
    return code is not None and wider.endswith(".") and (code.startswith(wider) or code == wider[:-1])
