"""Whether the gateway in this container is ready, by the exit code: `serve` at one port, `work` at the other.

It asks both, since the image does not know which of them is run, and imports nothing of the gateway, since an
engine runs it every few seconds.
"""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing
from http import HTTPStatus

PORTS = ("MOTION_GATEWAY_SERVER__PORT", "MOTION_GATEWAY_METRICS__PORT")
TIMEOUT_S = 4.0


def is_ready(port: int) -> bool:
    """Ask at a port on loopback, past any proxy that the environment names."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


if __name__ == "__main__":
    sys.exit(not any(is_ready(int(os.environ[name])) for name in PORTS if name in os.environ))
