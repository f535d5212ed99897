"""`motion-gateway demo`: the main job, end to end, at every simulated provider, on real input.

`command` is the command and what it prints; read it first. `stage` starts what the demo needs and `inputs`
makes what goes in; `course` takes one job from its post to its film, and checks what a customer would;
`receiver` is the customer's side of media and webhooks; `timeline` shows what happened to a job.

Nothing here reads the environment's settings, so that no key of a real provider is ever used.
"""

from gateway.cli.demo.command import command

__all__ = ["command"]
