"""Telling receivers what happened: signed as Standard Webhooks 1.0.0 says, sent once, judged by the status.

`sending` carries out one try; read it first. `outcome` says what can come of one (pure), `retry` when the
next is due (pure), `endurance` when an endpoint is disabled (pure), `signing` makes the three headers and
`verifying` reads them, for receivers of our own, `keys` is what is signed with, `events` lists what is
told, `shares` and `turns` keep slow receivers from holding up the others, `lanes` names the queues.

Not here: the bodies and the tries already made (`gateway.storage`), which of an owner's secrets sign
(`gateway.service`), the loop that does all this (`gateway.worker`), which addresses may be dialled
(`gateway.net`).
"""
