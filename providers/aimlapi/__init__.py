"""AI/ML API (`runway/act_two`). `spec` holds the tables, `wire` the calls, `emulation` the other side.

Peculiar to it: two paths for the same calls (the option `api_path`), a client request id that correlates
but does not deduplicate, outputs and errors whose shape changed four times in a year, ids that hold any
character, a 403 for an empty balance, credits of half a micro-USD, and no cancel. `reconcile` looks for a
lost submission in its request log, where the client request id proves which one it is.
"""

from providers.aimlapi import wire
from providers.aimlapi.reconcile import reconcile
from providers.aimlapi.spec import SPEC
from providers.contract.adapter import Adapter

adapter = Adapter(
    spec=SPEC,
    build_submit=wire.build_submit,
    parse_submit=wire.parse_submit,
    build_poll=wire.build_poll,
    parse_poll=wire.parse_poll,
    parse_failure=wire.parse_failure,
    build_probe=wire.build_probe,
    parse_probe=wire.parse_probe,
    reconcile=reconcile,
)
