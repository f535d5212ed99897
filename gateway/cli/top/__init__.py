"""`motion-gateway top`: a running gateway at a glance, live at a terminal.

`command` asks over HTTP, as any client does; `figures` reads the metrics; `picture` draws. What is shown of
jobs, owners and providers is hostile: it is spelled out before it is drawn. Nothing here opens the database.
"""

from gateway.cli.top.command import command

__all__ = ["command"]
