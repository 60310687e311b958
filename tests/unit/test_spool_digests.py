from __future__ import annotations

from fsqueue.spool.format.digests import digest_of

KEY, OTHER_KEY = b"k" * 64, b"k" * 63 + b"l"


def test_it_stays_the_same_from_one_version_to_the_next():
    assert digest_of("call", [b"content"], b"") == "c16dd23970024fa2f6b51f267d230779"
    assert digest_of("call", [b"content"], KEY) == "0bb122853fc1a53e3bfdef2e9a82d044"


def test_it_is_that_of_the_chunks_together():
    assert digest_of("call", [b"con", memoryview(b"tent")], KEY) == digest_of(
        "call", [b"", bytearray(b"content")], KEY
    )


def test_kinds_keys_and_contents_are_told_apart():
    digests = {
        digest_of(kind, [content], key)
        for kind in ("call", "outcome", "blob")
        for content in (b"", b"content", b"contend")
        for key in (b"", KEY, OTHER_KEY)
    }
    assert len(digests) == 27
