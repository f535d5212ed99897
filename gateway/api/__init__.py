"""The HTTP API. `asgi` puts it together; `openapi/openapi.json` says what it promises.

* `jobs`, `providers`, `callbacks`, `ops`: the routes, one resource a file.
* `schemas`: what a client may send. `semantics`: what it means, or why it cannot be.
* `auth`: who calls. `body`, `paging`: bodies and queries read strictly. `problems`: every error's type.
* `request_body`, `headers`: what handlers take off a request.
* `streams`: a job's events as they happen. `waiting`, `prefer`: answers that wait for a job's end.
  `departure`: a client that leaves.
* `front`: outside the framework: request ids, timing, the last resort for errors.
* `protocol`: outside ASGI: limits on a request's head.
* `openapi`: the description, built from the schemas.

Handlers reach storage and providers only through `gateway.service`.
"""
