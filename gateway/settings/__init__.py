"""Settings: what can be set, and how it is read at start.

`model` has every setting with default, range and meaning; read it first. `load` reads them all from a TOML
file, the environment and the command line, and raises one `SettingsError` that tells everything wrong.
`Secret` wraps what must not be shown.

Not here: what a setting does (the room that uses it), which providers exist (`gateway.registry`; `load` is
handed their specs), keys of clients (they are in the database).
"""

from gateway.settings.load import Loaded, load
from gateway.settings.model import Account, Provider, Settings
from gateway.settings.secret import Secret

__all__ = ["Account", "Loaded", "Provider", "Secret", "Settings", "load"]
