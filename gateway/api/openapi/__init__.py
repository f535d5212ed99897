"""The API's description (OpenAPI 3.1), built from the very types that decode requests and encode replies.

Operations are listed here by hand, since what a handler takes and answers is more than a framework can
guess from it; a test holds this list against the routes that are served.

* `operation`: what is said of one; read it first.
* `jobs`, `plans`, `deliveries`, `endpoints`, `callbacks`, `providers`, `usage`, `ops`: what the routes in the
  files of these names beside this folder promise.
* `parameters`, `refusals`: what several of them have.
* `document`: all of them in order, `described` one by one, with their schemas and `problem_schema`.
"""

from gateway.api.openapi.document import OPERATIONS, build_openapi

__all__ = ["OPERATIONS", "build_openapi"]
