"""The composition root: the one place that knows how the parts fit.

`from_settings` reads the settings in the terms of what is built from them; `parts` builds everything that
serves and works; `http` puts the API before it, and `work` the lanes of the worker; `gateway` starts, stops
and closes it all; `heap` keeps the garbage collector off it. Not here: anything that decides.
"""
