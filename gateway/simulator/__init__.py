"""The providers as an ASGI app, with fault scripts and real MP4s; for tests, demos and first steps.

Every provider's wire comes from outside as an `Emulation` (`providers/contract/emulation.py`); this room owns
what moves: time, media, faults, counting. It knows no provider by name and dials nothing but loopback, unless
told otherwise.

Read `app` first: `Simulator` puts the parts together and lists the routes. Then `mount` (what happens to a
create, a poll, a cancel and a list), `jobs` (a job's course), `callbacks` (its end reported), `faults` (what
can be made to go wrong) and `spoil` (how), `making`, `media`, `fetch` and `studio` (inputs in, films out),
`stats`, `wire` (ASGI in and out) and `server` (on a port).
The picture half is `film`, with `footage`, `motion`, `stage` and `reel` below it, and `samples`.

Not here: the adapters' side of the wire, and anything the gateway needs in order to serve.
"""

from gateway.simulator.app import Simulator
from gateway.simulator.faults import FaultRule, FaultScript, FaultScriptRefused, load_script, read_script
from gateway.simulator.server import SimulatorServer, serve_simulator

__all__ = [
    "FaultRule",
    "FaultScript",
    "FaultScriptRefused",
    "Simulator",
    "SimulatorServer",
    "load_script",
    "read_script",
    "serve_simulator",
]
