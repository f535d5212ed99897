"""The command `motion-gateway`: what people and scripts start.

One file a command: `serve`, `work`, `simulate`, `migrate`, `check`, `keys`, `held` and `resolve` (over
`holding`), `openapi`, the folder `demo`, the client's `submit`, `watch` and `cancel`, and the receiver's
folder `listen`. Read `root` first: it lists them and loads the one asked for.
What commands share: `exits` (exit codes), `configured` and `chosen_database` (settings and database as the
user names them), `running` (servers inside this process), `built_in` (the simulator as the provider),
`client` and `outcome` (asking a gateway about jobs), `screen` (tables, progress). `banner` is what `serve`
says at start, and `verdicts` what `check` looks at.

Answers go to stdout, so that scripts can read them; everything said to people goes to stderr, but for
`serve`, `demo` and `simulate`, whose logs have stderr to themselves, and `listen`.

Not here: anything that decides; commands call `gateway.app`, the service, or the API of a running gateway.
"""

from gateway.cli.root import main

__all__ = ["main"]
