"""Eachlabs (`runway-act-two`). `spec` holds the tables, `wire` the calls, `emulation` the other side.

Peculiar to it: `success` from create only means accepted; a failed prediction keeps its reason where the
result would stand; every place has status words of its own; moderation is laxer unless told otherwise; a
cancel closes the record while the run may go on; there are two ways to send the key; it calls back, with a
secret that it repeats and a word that proves nothing. `reconcile` looks for a lost submission, which here can
be told by its inputs only.
"""

from providers.contract.adapter import Adapter
from providers.eachlabs import wire
from providers.eachlabs.reconcile import reconcile
from providers.eachlabs.spec import SPEC

adapter = Adapter(
    spec=SPEC,
    build_submit=wire.build_submit,
    parse_submit=wire.parse_submit,
    build_poll=wire.build_poll,
    parse_poll=wire.parse_poll,
    parse_failure=wire.parse_failure,
    build_cancel=wire.build_cancel,
    reconcile=reconcile,
    parse_callback=wire.parse_callback,
)
