"""The only room that talks to providers.

`accounts` says who asks and where, `client` sends one request value, `classify` says what came of it
(pure), `calls` puts them together: build, send, read, normalize. Nothing here retries or remembers.
"""
