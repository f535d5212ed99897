"""Callbacks from providers: they name a lost run, make a poll due, and are hints from who proves himself."""

from __future__ import annotations

import json

import httpx
import pytest
from lost_runs import UNSEEN, accept_both, note, runs_at
from running_gateway import ADAPTERS, BOTH_ENGINES, PROVIDERS, JumpClock, StartGateway, fault

from providers.contract.spec import SecretProof

CALLING = [name for name in PROVIDERS if ADAPTERS[name].spec.callback is not None]


@BOTH_ENGINES
@pytest.mark.parametrize("provider", CALLING)
async def test_a_callback_names_the_run_that_nothing_else_could_tell(
    start_gateway: StartGateway, provider: str
) -> None:
    """Two equal submissions are lost, and the lists show nothing: each goes on with its own run."""
    running = await start_gateway(public=True)
    running.break_(fault("accept_reset", provider=provider, times=2), UNSEEN)
    jobs = await accept_both(running, provider)
    ended = [await running.ended(job_id) for job_id in jobs]
    assert [job["status"] for job in ended] == ["succeeded"] * 2
    assert len({job["attempts"][0]["provider_ref"] for job in ended}) == 2
    for job_id in jobs:
        assert (await note(running, job_id, "attempt.adopted"))["by"] == "callback"
    timeline = json.dumps([await running.timeline(job_id) for job_id in jobs])
    assert running.url in timeline
    for run in runs_at(running, provider):
        assert run.callback_secret not in timeline
        assert run.callback_url.rpartition("/")[2] not in timeline


@pytest.mark.parametrize("provider", CALLING)
@pytest.mark.parametrize("spoilt", ["twice", "lost", "forged"])
async def test_a_callback_is_a_hint_and_no_more(
    start_gateway: StartGateway, provider: str, spoilt: str
) -> None:
    running = await start_gateway(public=True, simulator={"callback_pause_s": 0.01})
    running.break_(fault(spoilt, "callback", provider=provider))
    job = await running.ended(await running.accept(provider))
    assert (job["status"], await running.accepted(provider)) == ("succeeded", 1)


@pytest.mark.parametrize("provider", CALLING)
async def test_a_callback_makes_the_poll_due(start_gateway: StartGateway, provider: str) -> None:
    clock = JumpClock()
    slow = {f"PROVIDERS__{provider.upper()}__POLL_SCALE": "100"}
    running = await start_gateway(public=True, settings=slow, clock=clock)
    job = await running.ended(await running.accept(provider))
    assert job["status"] == "succeeded"


@pytest.mark.parametrize("provider", CALLING)
async def test_only_the_provider_is_listened_to(
    start_gateway: StartGateway, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = JumpClock()
    running = await start_gateway(public=True, simulator={"clock": clock, "run_s": 1000.0})
    job_id = await running.accept(provider)
    await running.until(job_id, lambda job: job["attempts"] and job["attempts"][0]["state"] == "accepted")
    (run,) = runs_at(running, provider)
    spec = ADAPTERS[provider].spec.callback
    assert spec is not None
    assert isinstance(spec.proof, SecretProof)
    token = run.callback_url.rpartition("/")[2]
    attempt_id, _, mac = token.partition(".")
    body = json.dumps({"exec_id": run.ref, "status": "succeeded"}).encode()
    good = {spec.proof.header: run.callback_secret}
    other = "att_" + "0" * 32
    wrong: list[tuple[str, str, dict[str, str]]] = [
        (provider, token, {}),
        (provider, token, {spec.proof.header: "x"}),
        (provider, token, {spec.proof.header: mac}),
        (provider, f"{attempt_id}.{mac[:-1]}", good),
        (provider, f"{other}.{mac}", good),
        (provider, attempt_id, good),
        (provider, "x", good),
        ("runway", token, good),
        ("nobody", token, good),
    ]
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        documents = set()
        for name, given, headers in wrong:
            reply = await http.post(f"/v1/callbacks/{name}/{given}", content=body, headers=headers)
            assert reply.status_code == 401, (name, given)
            document = reply.json()
            documents.add((document["type"], document["detail"]))
        assert len(documents) == 1
        path = f"/v1/callbacks/{provider}/{token}"
        assert (await http.post(path, content=b"{}", headers=good)).status_code == 400
        assert (await http.post(path, content=b"\xff", headers=good)).status_code == 400
        assert (await http.post(path, content=b" " * (1024 * 1024 + 1), headers=good)).status_code == 413
        for _ in range(2):
            assert (await http.post(path, content=body, headers=good)).status_code == 200
        stranger = json.dumps({"exec_id": "another-run"}).encode()
        assert (await http.post(path, content=stranger, headers=good)).status_code == 200
        assert (await http.get(path)).status_code == 405
    job = await running.job(job_id)
    assert job["attempts"][0]["provider_ref"] == run.ref
    assert job["status"] in {"queued", "running"}
    clock.jump(1000)
    assert (await running.ended(job_id))["status"] == "succeeded"
    logged = capsys.readouterr().err
    assert "/v1/callbacks/..." in logged
    assert token not in logged
    assert run.callback_secret not in logged


async def test_without_a_public_url_no_callback_is_wanted_or_taken(start_gateway: StartGateway) -> None:
    running = await start_gateway()
    await running.ended(await running.accept("eachlabs"))
    (run,) = runs_at(running, "eachlabs")
    assert (run.callback_url, run.callback_secret) == ("", "")
    reply = await running.client.post("/v1/callbacks/eachlabs/att_x.y", json={})
    assert reply.status_code == 401
