"""Runway direct (`act_two`). `spec` holds the tables, `wire` the calls, `emulation` the other side.

Peculiar to it: a required version header, THROTTLED for jobs it queues itself, failure codes matched by
prefix, a DELETE that cancels, destroys finished output and leaves a 404, and fresh output URLs on every poll.
"""

from providers.contract.adapter import Adapter
from providers.runway import wire
from providers.runway.spec import SPEC

adapter = Adapter(
    spec=SPEC,
    build_submit=wire.build_submit,
    parse_submit=wire.parse_submit,
    build_poll=wire.build_poll,
    parse_poll=wire.parse_poll,
    parse_failure=wire.parse_failure,
    build_cancel=wire.build_cancel,
    build_probe=wire.build_probe,
    parse_probe=wire.parse_probe,
)
