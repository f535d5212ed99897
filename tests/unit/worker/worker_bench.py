"""The worker's steps over a real store, before a provider and receivers that answer as a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import msgspec
from job_examples import a_spec, an_adapter
from msgspec import Struct
from store_stage import Stage

from gateway import net
from gateway.jobs.transitions import TaskKind
from gateway.net import BEFORE_SEND, DIAL, RequestWithheld
from gateway.routing.catalogue import Catalogue, Offer
from gateway.routing.conditions import Conditions
from gateway.routing.failover import Rules
from gateway.routing.health import Limits
from gateway.routing.routes import JobRoutes
from gateway.service.adoption import Adoptions
from gateway.service.dispatch import JobTask
from gateway.service.health import Healths, Terms
from gateway.service.run_times import RunTimes
from gateway.settings import Secret
from gateway.settings.model import Webhooks
from gateway.telemetry import Metrics
from gateway.upstream.accounts import Accounts, UpstreamAccount
from gateway.upstream.calls import Calls
from gateway.upstream.client import Client
from gateway.webhooks.sending import Sender
from gateway.webhooks.turns import Turns
from gateway.worker.cancel import Cancel
from gateway.worker.deliver import Deliver
from gateway.worker.poll import Poll
from gateway.worker.reconcile import Reconcile
from gateway.worker.submit import Submit
from gateway.worker.sweep import Sweep
from gateway.worker.tools import Tools
from providers.contract.spec import Spec

HOLD_S = 3600
A_DAY_MS = 86_400_000
SCHEDULE_S = (0.0, 5.0, 300.0)


class Killed(BaseException):
    """The process ends here, as far as the code under test can tell."""


class Reply(Struct, frozen=True):
    """An answer; bytes go out as they are, anything else as JSON."""

    status: int
    document: Any = None
    retry_after: str | None = None


class NobodyThere(Struct, frozen=True):
    """No connection stands."""


Answer = Reply | NobodyThere | BaseException

MADE = Reply(201, {"id": "r-1"})
RUNNING = Reply(200, {"status": "RUNNING"})
SUCCEEDED = Reply(200, {"status": "SUCCEEDED", "url": "https://cdn.example/film.mp4"})


class Script(httpx.AsyncBaseTransport):
    """Answers in the order of the script, and keeps what it was asked; an unexpected request is an error."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.asked: list[httpx.Request] = []
        self.withheld: list[httpx.Request] = []
        """Those of them of which nothing was sent."""
        self.before_send: Callable[[], Awaitable[object]] | None = None
        """What happens once the connection stands, before the caller has the last word."""
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What else happens while a request is under way."""

    def says(self, *answers: Answer) -> None:
        """Extend the script."""
        self.answers.extend(answers)

    @property
    def calls(self) -> list[str]:
        """Method and path of every request."""
        return [f"{request.method} {request.url.path}" for request in self.asked]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert self.answers, f"nobody expected {request.method} {request.url}"
        answer = self.answers.popleft()
        if isinstance(answer, NobodyThere):
            raise httpx.ConnectError("refused")
        if DIAL in request.extensions:
            request.extensions[DIAL].connected = True
        if request.extensions.get(BEFORE_SEND) is not None:
            await self._ask(request)
        if self.meanwhile is not None:
            await self.meanwhile()
        if isinstance(answer, BaseException):
            raise answer
        raw = answer.document
        body = raw if isinstance(raw, bytes) else b"" if raw is None else msgspec.json.encode(raw)
        headers = {} if answer.retry_after is None else {"retry-after": answer.retry_after}
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(body))

    async def _ask(self, request: httpx.Request) -> None:
        """Let the caller have the last word, as the transport does."""
        if self.before_send is not None:
            await self.before_send()
        try:
            await request.extensions[BEFORE_SEND]()
        except Exception as error:
            request.extensions[DIAL].withheld = True
            self.withheld.append(request)
            raise RequestWithheld(str(error)) from error


class ScriptedClient:
    """Receivers of webhooks that answer by a script."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, wanted: int, owner: str
    ) -> net.Answer:
        assert owner
        request = httpx.Request("POST", url, headers=dict(headers), content=body)
        response = await self._script.handle_async_request(request)
        text = (await response.aread())[:wanted]
        return net.Answer(response.status_code, response.headers.get("retry-after"), text, None)

    async def aclose(self) -> None:
        """Nothing is open."""


Step = Callable[[JobTask], Awaitable[None]]


class Bench:
    """The steps, their provider `acme` and its script."""

    def __init__(self, stage: Stage, *, spec: Spec | None = None, poll_scale: float = 1.0) -> None:
        self.stage = stage
        self.provider = Script()
        self.receiver = Script()
        self.account = UpstreamAccount(
            adapter=an_adapter(spec or a_spec()),
            name="default",
            api_key=Secret("key"),
            base_url="https://api.acme.example",
            options={},
            poll_scale=poll_scale,
        )
        self.metrics = Metrics(version="0", providers=["acme"], models=["act-two"], routes=[])
        self.catalogue = Catalogue(offers=(Offer(spec=self.account.adapter.spec, account="default"),))
        self.sender = Sender(ScriptedClient(self.receiver), Turns(total=1, per_host=1), queue_s=0.01)
        self.spread = 1.0
        self.rules: Rules = {}
        self.conditions: Conditions = {}
        self.run_times = RunTimes(stage.database, stage.clock)
        self.workers = 0
        # Pauses of no length: what a step does is not to be hidden by what its account does then.
        self.limits = Limits(scale=0.0)
        self.with_accounts(self.account)

    def with_accounts(self, *accounts: UpstreamAccount) -> None:
        """Set the steps up anew, with these accounts."""
        stage = self.stage
        terms = {one.id: Terms(limits=self.limits, longest_run_ms=A_DAY_MS) for one in accounts}
        self.healths = stage.healths = Healths(stage.database, stage.clock, terms)
        stage.become("first")
        calls = Calls(Client(self.provider), stage.clock, str, self.metrics.provider_request)
        self.tools = Tools(
            record=stage.record,
            leases=stage.leases,
            outbox=stage.outbox,
            census=stage.census,
            healths=self.healths,
            calls=calls,
            accounts=Accounts(accounts),
            clock=stage.clock,
            ids=stage.ids,
            metrics=self.metrics,
            run_times=self.run_times,
            spread=lambda: self.spread,
        )
        routes = JobRoutes(
            catalogue=self.catalogue, rules=self.rules, conditions=lambda _model: self.conditions
        )
        self.submit = Submit(self.tools, routes, hold_s=HOLD_S)
        self.poll = Poll(self.tools, routes)
        self.reconcile = Reconcile(self.tools, Adoptions(stage.database, stage.record, stage.clock))
        self.cancel = Cancel(self.tools)
        self.sweep = Sweep(self.tools)
        settings = Webhooks(schedule_s=SCHEDULE_S, jitter=0.0)
        self.deliver = Deliver(self.tools, self.sender, stage.sealer, settings)

    async def carry_out(self, task: JobTask) -> None:
        """Carry one task out."""
        steps: dict[TaskKind, Step] = {
            TaskKind.SUBMIT: self.submit,
            TaskKind.POLL: self.poll,
            TaskKind.RECONCILE: self.reconcile,
            TaskKind.CANCEL: self.cancel,
        }
        await steps[task.claim.kind](task)

    async def work(self, *answers: Answer) -> None:
        """Carry out what is due now, to these answers: each time as another worker, free to take over."""
        self.provider.says(*answers)
        self.workers += 1
        for task in await self.stage.worker(f"worker {self.workers}").dispatch.claim(10):
            await self.carry_out(task)
        assert not self.provider.answers, "more calls were expected"

    async def after(self, seconds: float, *answers: Answer) -> None:
        """Let time pass, then carry out what is due."""
        self.stage.clock.advance(seconds)
        await self.work(*answers)

    async def accepted(self, **request: Any) -> str:
        """Bring a job to where its provider has accepted it."""
        job_id = await self.stage.accept(**request)
        await self.work(MADE)
        return job_id

    def counted(self, name: str) -> float:
        """Add up a metric's samples."""
        lines = self.page().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"motion_gateway_{name}")
        )

    def page(self) -> str:
        """Return all that is exported."""
        return self.metrics.render()[0].decode()
