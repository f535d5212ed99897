"""What the gateway knows about motion-transfer providers: everything here is data and pure functions.

`contract` is what an adapter is made of; read `contract/__init__.py` first. `conformance` checks an
adapter against that contract. Each other package is one provider: `spec` (tables), `wire` (functions),
`emulation` (the same wire from the provider's side) and `exchanges/` (request and response pairs as files).

Nothing here sends, retries, sleeps, logs or reads the clock or the environment; the gateway does that
and names no adapter: they are found through the entry-point group `motion_gateway.providers`.
To add one, read ADDING_A_PROVIDER.md.
"""
