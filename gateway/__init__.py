"""Motion Gateway: takes motion-transfer jobs over HTTP, runs each at a provider, tells the caller of its end.

`app` puts the parts together; start there to see what talks to what. Then, from the outside in:

* `cli`, `api`: how people and services reach it.
* `worker`: what happens to a job after it was accepted.
* `service`: every change of state, one transaction each.
* `storage`, `upstream`, `webhooks`: the database, the providers, the receivers.
* `net`, `routing`, `jobs`: what may be dialled, who is chosen, what a job is.
* `registry`, `telemetry`, `settings`, `errors`, `clock`, `ids`: the ground.

Imports go down this list only, and no adapter is named anywhere in it; import-linter holds both.
"""
