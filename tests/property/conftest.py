"""Applications and workers in threads of the test's own process, as for the integration tests."""

from integration.conftest import app, make_app

__all__ = ["app", "make_app"]
