"""What tests of whole gateways share. The one conftest there is: mypy takes no two modules of one name."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.simulator import Simulator, SimulatorServer, media, serve_simulator, studio
from providers.contract.motion import Character, CharacterType, MotionRequest, Reference

# Modules of these folders are imported by tests of other folders.
sys.path += [
    str(Path(__file__).parent / folder) for folder in ("flows", "store", "faults", "e2e", "unit/net")
]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell has it for what it starts in the background. Commands that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

from invariants import check_invariants
from postgres_server import fresh_database
from running_gateway import (
    CHARACTER,
    EMULATIONS,
    REFERENCE,
    RunningGateway,
    StartGateway,
    StartSimulator,
    open_gateway,
)

pytest_plugins = ("store_stage",)  # a database, and the services over it

SAMPLES = MotionRequest(
    character=Character(type=CharacterType.IMAGE, url=CHARACTER), reference=Reference(url=REFERENCE)
)
# Decoding the same samples anew for every simulator would take most of these tests' time.
_measured = functools.cache(media.measure)


@pytest.fixture
async def simulator_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StartSimulator]:
    """Start simulators of every emulation installed; they stop with the test.

    The factory takes `Simulator`'s own options, and `port`; unless they say otherwise jobs run 0.2 s, without
    real films.
    """
    monkeypatch.setattr(studio, "measure", _measured)
    async with AsyncExitStack() as stack:

        async def start(port: int = 0, **options: Any) -> SimulatorServer:
            chosen: dict[str, Any] = {
                "clock": SystemClock(),
                "run_s": 0.2,
                "render": False,
                "random_bits": Random(7).getrandbits,  # noqa: S311 - the same refs in every run
            }
            simulator = Simulator(EMULATIONS, **(chosen | options))
            # The first drawing and measuring takes longer than some tests let a provider take.
            await simulator._studio.measure(await simulator._media.load(SAMPLES))
            return await stack.enter_async_context(await serve_simulator(simulator, port=port))

        yield start


def begin_to_stop(server: SimulatorServer) -> None:
    server._server.should_exit = True
    server.simulator.refuse_more()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Name the database engine of the test's gateways: SQLite, unless the test says BOTH_ENGINES."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def database_url(engine: str, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own, for `open_gateway` or a process; at the end its invariants hold."""
    if engine == "sqlite":
        url = f"sqlite:///{tmp_path}/gateway.db"
        yield url
        if (tmp_path / "gateway.db").exists():
            check_invariants(url)
        return
    with fresh_database() as url:
        yield url
        check_invariants(url)


@pytest.fixture
async def start_gateway(
    simulator_server: StartSimulator, tmp_path: Path, database_url: str
) -> AsyncIterator[StartGateway]:
    """Run gateways with simulated providers; both stop with the test.

    The factory takes `open_gateway`'s options, and `simulator`, a mapping of `Simulator`'s. Whatever a test
    does to the gateway, its database keeps the invariants.
    """
    async with AsyncExitStack() as stack:

        async def start(*, simulator: dict[str, Any] | None = None, **options: Any) -> RunningGateway:
            served = await simulator_server(**(simulator or {}))
            running = await stack.enter_async_context(
                open_gateway(tmp_path, served, database=database_url, **options)
            )
            stack.callback(begin_to_stop, served)  # while the gateway stops
            return running

        yield start


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    """One gateway for a module's tests: it stores what it accepts, and carries nothing out."""
    folder = tmp_path_factory.mktemp("running")
    impatient = {"SERVER__BODY_TIMEOUT_S": "0.3", "SERVER__HEAD_TIMEOUT_S": "0.3"}
    async with (
        await serve_simulator(Simulator(EMULATIONS, clock=SystemClock(), render=False)) as served,
        open_gateway(folder, served, settings=impatient) as gateway,
    ):
        await gateway.gateway.stop_worker()
        yield gateway
    check_invariants(folder / "gateway.db")
