"""Who gets a job, and what is said of those who do not."""

from __future__ import annotations

import pytest
from running_gateway import ADAPTERS, CHARACTER, PROVIDERS, Document, StartGateway, asked
from timeline_entries import plans_in

from gateway.jobs.job import JobRequest
from providers.contract.mapping import unconveyable
from providers.contract.motion import Character, CharacterType, ContentModeration, Reference, Threshold

REQUEST = JobRequest(
    character=Character(type=CharacterType.IMAGE, url=CHARACTER),
    reference=Reference(url=CHARACTER),
    content_moderation=ContentModeration(public_figure_threshold=Threshold.LOW),
    deadline_s=60,
)
DEAF_TO_LOW = [name for name in PROVIDERS if unconveyable(ADAPTERS[name].spec.models[0], REQUEST)]


async def test_without_a_wish_the_first_in_the_order_of_preference_is_taken(
    start_gateway: StartGateway,
) -> None:
    running = await start_gateway(settings={"ROUTING__PROVIDERS": PROVIDERS[-1]})
    job = await running.ended(await running.accept())
    assert job["provider"] == PROVIDERS[-1]


async def test_the_wish_and_the_exclusion_are_kept(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    routing = {"providers": list(reversed(PROVIDERS)), "exclude": [PROVIDERS[-1]]}
    job_id = await running.accept(routing=routing)
    assert (await running.ended(job_id))["provider"] == PROVIDERS[-2]
    (plan,) = plans_in(await running.timeline(job_id))
    assert plan["left_out"] == [
        {
            "provider": PROVIDERS[-1],
            "account": "default",
            "code": "excluded",
            "reason": "named in routing.exclude",
            "options": [],
        }
    ]


async def test_a_provider_without_an_account_is_named_with_what_to_set(start_gateway: StartGateway) -> None:
    running = await start_gateway(base_urls={PROVIDERS[0]: "http://127.0.0.1:9"})
    await running.gateway.stop_worker()
    reply = await running.client.post("/v1/jobs", json=asked(PROVIDERS[1]))
    assert (reply.status_code, reply.json()["type"]) == (422, "/problems/no-provider")
    assert ADAPTERS[PROVIDERS[1]].spec.key_env in reply.json()["detail"]
    (plan,) = plans_in(await running.timeline(await running.accept()))
    assert {one["provider"]: one["code"] for one in plan["left_out"]} == dict.fromkeys(
        PROVIDERS[1:], "not_enabled"
    )


@pytest.mark.parametrize("provider", DEAF_TO_LOW)
async def test_what_a_provider_cannot_convey_is_refused_with_the_reason(
    start_gateway: StartGateway, provider: str
) -> None:
    running = await start_gateway()
    low: Document = {"content_moderation": {"public_figure_threshold": "low"}}
    reply = await running.client.post("/v1/jobs", json=asked(provider, **low))
    problem = reply.json()
    assert (reply.status_code, problem["type"]) == (422, "/problems/no-provider")
    assert f"{provider}: content_moderation.public_figure_threshold" in problem["detail"]
    assert (await running.client.get("/v1/jobs")).json()["jobs"] == []
    if len(DEAF_TO_LOW) < len(PROVIDERS):
        job_id = await running.accept(**low)
        assert (await running.ended(job_id))["provider"] not in DEAF_TO_LOW
        (plan,) = plans_in(await running.timeline(job_id))
        left = {one["provider"]: one for one in plan["left_out"]}[provider]
        assert left["code"] == "cannot_convey"
        assert [one["option"] for one in left["options"]] == ["content_moderation.public_figure_threshold"]
    assert await running.accepted(provider) == 0
