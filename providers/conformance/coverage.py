"""What no exchange file shows: an operation, a status word or a failure rule that is only claimed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from providers.conformance.exchanges import Exchange
from providers.conformance.finding import Finding
from providers.contract.adapter import Adapter
from providers.contract.normalize import rule_for
from providers.contract.report import Failure
from providers.contract.spec import FailureRule, StatusWord
from providers.contract.status import JobStatus

Shown = StatusWord | FailureRule


def check_covered(adapter: Adapter, exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    """Yield every operation, status word and failure rule that no exchange file shows; and a refusal."""
    operations = {exchange.operation for exchange in exchanges}
    for name, declared in (
        ("submit", True),
        ("poll", True),
        ("cancel", adapter.build_cancel is not None),
        ("probe", adapter.build_probe is not None),
        ("reconcile", adapter.reconcile is not None),
        ("callback", adapter.parse_callback is not None),
    ):
        if declared and name not in operations:
            yield Finding("replayed.coverage", f"exchanges/{name}-*.json", "no file shows this operation")
    if not any(exchange.operation == "submit" and not exchange.http.successful for exchange in exchanges):
        yield Finding("replayed.coverage", "exchanges/submit-*.json", "no file shows a refused submit")
    shown = {entry for exchange in exchanges for entry in _shown(adapter, exchange)}
    for word in adapter.spec.statuses:
        if word not in shown:
            yield Finding("replayed.coverage", f"spec.statuses[{word.word}]", "no file shows this word")
    for index, rule in enumerate(adapter.spec.failures):
        if rule not in shown:
            problem = "no file shows a failure that this rule decides"
            yield Finding("replayed.coverage", f"spec.failures[{index}]", problem)


def _shown(adapter: Adapter, exchange: Exchange) -> Iterator[Shown]:
    spec, reply = adapter.spec, exchange.http
    try:
        if not reply.successful:
            rule = rule_for(spec, adapter.parse_failure(reply), http_status=reply.status)
            if rule is not None:
                yield rule
        elif exchange.operation == "poll":
            seen = adapter.parse_poll(reply)
            word = spec.word(seen.status)
            if word is not None:
                yield word
            if word is not None and word.means is JobStatus.FAILED:
                rule = rule_for(spec, seen.failure or Failure(), http_status=None)
                if rule is not None:
                    yield rule
    except Exception:  # noqa: BLE001  (what a reader cannot read shows nothing; `replay` reports it)
        return
