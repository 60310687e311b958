"""Helpers of the tests of the configuration."""

import pytest

from fsqueue.config import load_config
from fsqueue.errors import ConfigError


def load(environ=None, start=None, **options):
    return load_config(options, environ=environ or {}, start=start)


def refused(environ=None, start=None, **options):
    with pytest.raises(ConfigError) as caught:
        load(environ, start, **options)
    return str(caught.value)
