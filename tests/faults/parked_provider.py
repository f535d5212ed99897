"""A provider whose every call waits until a test says what came of it. Its books show what was bought."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import httpx
import msgspec
from job_examples import SOURCE, a_spec, an_adapter
from msgspec.structs import replace

from gateway.clock import Clock
from gateway.net import BEFORE_SEND, DIAL, RequestWithheld
from providers.contract.adapter import Adapter, CallContext, Sought
from providers.contract.exchange import HttpRequest, HttpResponse
from providers.contract.report import Sighting
from providers.contract.spec import BillingSpec, CancelSpec

LIST, CREATE, SHOW, STOP = "list", "create", "show", "stop"
OUTPUT = "https://cdn.example/{}.mp4"


class Run:
    """A run that was bought.

    Attributes:
        ref: the provider's name for it.
        attempt_id: what it was submitted as.
        host: where it was bought.
        body: what was submitted.
        at_ms: when it was bought.
        told: the status words that were shown of it.
        stopped: whether the provider was asked to stop it, and did.
    """

    def __init__(self, ref: str, attempt_id: str, host: str, body: dict[str, Any], at_ms: int) -> None:
        self.ref, self.attempt_id, self.host, self.body, self.at_ms = ref, attempt_id, host, body, at_ms
        self.told: set[str] = set()
        self.stopped = False


class Lost:
    """No answer comes: the connection breaks."""


Answer = httpx.Response | Lost


class Call:
    """A request that waits.

    Attributes:
        kind: list, create, show or stop.
        ref: of the run it is about.
        attempt_id: of a create.
        sent: whether its bytes went out; until then only its connection is being made.
        run: what it bought.
    """

    def __init__(self, request: httpx.Request) -> None:
        self.request = request
        path = request.url.path
        self.ref = path.rpartition("/")[2]
        kinds = {"GET": LIST if path == "/jobs" else SHOW, "POST": CREATE, "DELETE": STOP}
        self.kind = kinds[request.method]
        self.attempt_id = request.headers.get("x-client-id", "")
        self.sent = self.kind != CREATE
        self.run: Run | None = None
        self.parked: asyncio.Future[Answer | bool] | None = None


class ParkedProvider(httpx.AsyncBaseTransport):
    """Parks every call.

    Attributes:
        runs: by ref, all that was bought.
        waiting: calls that wait for `connect` or `answer`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.runs: dict[str, Run] = {}
        self.waiting: list[Call] = []
        self.on_park: Callable[[], None] = lambda: None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(request)
        dial = request.extensions[DIAL]
        last_check = request.extensions.get(BEFORE_SEND)
        dial.withheld = last_check is not None
        if not call.sent and not await self._park(call):
            raise httpx.ConnectError("refused")
        dial.connected = True
        if last_check is not None:
            try:
                await last_check()
            except Exception as error:
                raise RequestWithheld(str(error)) from error
            dial.withheld = False
        call.sent = True
        answer = await self._park(call)
        if not isinstance(answer, httpx.Response):
            raise httpx.ReadError("the connection broke")
        return answer

    async def _park(self, call: Call) -> Answer | bool:
        call.parked = asyncio.get_running_loop().create_future()
        self.waiting.append(call)
        self.on_park()
        try:
            return await call.parked
        finally:
            self.waiting.remove(call)

    def let_go(self, call: Call, word: Answer | bool) -> None:  # noqa: FBT001  (what a call waits for)
        """Answer a call, or say whether its connection stands."""
        assert call.parked is not None
        call.parked.set_result(word)

    def known(self, call: Call) -> list[Run]:
        """Tell what was bought at the account that asks."""
        return [run for run in self.runs.values() if run.host == call.request.url.host]

    def buy(self, call: Call) -> Run:
        """Take a job on, once a call."""
        assert call.kind == CREATE
        assert call.sent
        if call.run is None:
            body = msgspec.json.decode(call.request.content)
            host, now_ms = call.request.url.host, self._clock.now_ms()
            call.run = Run(f"r-{len(self.runs)}", call.attempt_id, host, body, now_ms)
            self.runs[call.run.ref] = call.run
        return call.run


def says(status: int, document: object = None, **headers: str) -> httpx.Response:
    """An answer."""
    body = b"<html>" if document is None else msgspec.json.encode(document)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=fields, stream=httpx.ByteStream(body))


def an_adapter_that_looks(cancel: CancelSpec | None, name: str = "acme", **changes: Any) -> Adapter:
    """The made-up adapter, with a list of runs to look for lost submissions in."""
    # Charged only for what succeeds, so that what fails may be tried elsewhere.
    billing = BillingSpec(failures_free=True, source=SOURCE)
    adapter = an_adapter(a_spec(name, cancel=cancel, billing=billing, **changes))
    return replace(adapter, reconcile=_look)


def _look(
    _context: CallContext, _sought: Sought
) -> Generator[HttpRequest, HttpResponse, tuple[Sighting, ...]]:
    reply = yield HttpRequest(method="GET", path=("jobs",))
    return msgspec.json.decode(reply.body, type=tuple[Sighting, ...]) if reply.status == 200 else ()
