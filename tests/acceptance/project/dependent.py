"""A module that is there, but imports one that is not."""

import a_package_that_nobody_has  # noqa: F401
