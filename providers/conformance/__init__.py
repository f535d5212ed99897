"""Is an adapter fit to be trusted with money? Checks over what it declares and over exchanges kept as files.

Every check returns `finding.Finding` values, each saying what is wrong, where, and what to do; none raises.

* `declared`: the tables and the built calls, fast enough for every start (`identity`, `access`, `terms`,
  `models`, `words`, `sources` and `calls` hold the parts, `samples` the requests they try).
* `exchanges`: the form of an exchange file, and how files are loaded.
* `replayed`: every file's request is built and its response read again; `coverage` names what no file shows.
* `lost`, `callbacks`: the looks for a lost submission, and what the provider posts by itself.
* `damaged`: the same responses broken in every way of `damage`, which no reader may mistake for sense.
* `verdict`: all of it in one call, for the command line.
* `suite`: all of it as pytest tests, for an adapter's own repository. Only this module needs pytest.

Not here: what a provider does in life (nothing here dials), and how the gateway acts on a finding.
Read `verdict` first; to write an adapter, read `../ADDING_A_PROVIDER.md`.
"""
