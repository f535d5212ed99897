"""JSON values and objects of every shape, with names and text that are awkward to read."""

from __future__ import annotations

from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab"\\/{}[]:,\n é😀\u0001'),
    lambda child: st.lists(child, max_size=4) | st.dictionaries(st.text('ab"\\:é\u0001', max_size=4), child),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text('ab"\\:é'), JSON_VALUES, max_size=5)
