"""Arbitrary and nearly right bytes, decoded as files of a spool: an error of ours, or the truth.

`tests/property/fuzz.py` runs the same for minutes, guided by coverage.
"""

from __future__ import annotations

import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples

FEW = settings(max_examples=examples(150), deadline=None)
_PIECES = st.sampled_from(
    [
        b"fsqueue ", b"1 ", b"2 ", b"0 ", b"call ", b"outcome ", b"\n", b"0" * 32, b"{", b"}",
        b'"id":', b'"segments":[', b"]", b"99999999999999", b" ", b"\xff", b"\x00", b'"', b":",
    ]
)  # fmt: skip
_ASSEMBLED = st.lists(_PIECES | st.binary(max_size=4), max_size=24).map(b"".join)


@given(st.binary(max_size=300) | _ASSEMBLED)
@FEW
def test_any_bytes(data):
    fuzz.look_at_bytes(data)


@given(st.binary(min_size=1, max_size=64))
@FEW
def test_files_that_are_nearly_right(plan):
    fuzz.look_at_mutated(plan)


@given(st.binary(max_size=200) | _ASSEMBLED)
@FEW
def test_a_whole_file_with_any_header(header):
    fuzz.look_at_sealed(header)
