"""Driving an adapter's look for a lost submission, with answers of a test's own."""

from __future__ import annotations

from collections.abc import Callable

from providers.contract.adapter import MOST_LOOKS, Adapter, CallContext, Sought
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference
from providers.contract.report import Sighting

#: 2026-11-21T12:00:00Z
SENT_MS = 1_795_262_400_000
DOUBTED_MS = SENT_MS + 60_000
REQUEST = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url="https://media.example/hero.png"),
    reference=Reference(url="https://media.example/act.mp4"),
)

Answer = Callable[[HttpRequest], HttpResponse]


class Looking:
    """One look, and what it asked."""

    def __init__(self, adapter: Adapter, answer: Answer, *, attempt_id: str = "att_1") -> None:
        self.adapter, self.answer = adapter, answer
        self.asked: list[HttpRequest] = []
        (self.model,) = adapter.spec.models
        self.context = CallContext(model=self.model, attempt_id=attempt_id)

    def sightings(
        self, *, offered: tuple[str, ...] = (), known: frozenset[str] = frozenset()
    ) -> list[Sighting]:
        """Drive it to its end."""
        body = self.adapter.build_submit(REQUEST, self.context).json
        assert body is not None
        assert self.adapter.reconcile is not None
        sought = Sought(body=body, sent_ms=SENT_MS, doubted_ms=DOUBTED_MS, offered=offered, known=known)
        looking = self.adapter.reconcile(self.context, sought)
        try:
            request = next(looking)
            while True:
                self.asked.append(request)
                assert len(self.asked) <= MOST_LOOKS
                assert not request.paid
                request = looking.send(self.answer(request))
        except StopIteration as ended:
            seen: tuple[Sighting, ...] = ended.value
            return list(seen)
