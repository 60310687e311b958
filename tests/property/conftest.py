"""Applications and workers in threads of the test's own process, as for the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_files import Outside
from integration.conftest import make_app

__all__ = ["make_app"]


@pytest.fixture
def app(make_app):
    """An app whose workers notice a death soon."""
    return make_app(heartbeat=0.2, lease=1.0)


@pytest.fixture
def outside(spool, spool_roots):
    """A folder out of the spool, on the same filesystem, that nobody may touch."""
    root = f"{spool}-outside"
    spool_roots.append(root)  # to be removed
    outside = Outside(Path(root))
    yield outside
    assert outside.is_untouched()
