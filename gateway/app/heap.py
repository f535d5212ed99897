"""Memory of a process that is to run for weeks, as the garbage collector sees it."""

from __future__ import annotations

import gc


def keep_what_is_loaded() -> None:
    """Have the garbage collector pass over what is there now: modules, routes, tables, which all stay.

    A full collection stops the process while it looks at every object; those of the start are some hundred
    thousand, and took it a tenth of a second. To be called once, when everything is in place and before work
    begins.
    """
    gc.collect()  # or what is garbage already would be kept, too
    gc.freeze()
