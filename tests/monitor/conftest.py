"""Spools that several tests look at, and none changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from monitor_harness import Shop

# For spools of many calls, which the tests of costs have there.
sys.path.append(str(Path(__file__).parents[1] / "unit"))


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Shop:
    return Shop(str(tmp_path_factory.mktemp("spools") / "shop"))


@pytest.fixture(scope="session")
def hostile_shop(tmp_path_factory) -> Shop:
    return Shop(str(tmp_path_factory.mktemp("spools") / "hostile"), 1, hostile=True)


@pytest.fixture(scope="session")
def empty_shop(tmp_path_factory) -> Shop:
    return Shop(str(tmp_path_factory.mktemp("spools") / "empty"), 0)
