"""`motion-gateway listen`: a receiver of webhooks on loopback, for developing against.

`command` is the command and what it prints around the events; read it first. `desk` takes each request in,
verifies it and knows it again; `lines` shows what came of it.
"""

from gateway.cli.listen.command import command

__all__ = ["command"]
