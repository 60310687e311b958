"""Shows the programs of a slot's process the GPUs of its call."""

from __future__ import annotations

import os
import threading


class ShownDevices:
    """Shows the programs of this process their GPUs.

    Args:
        variable: the environment variable that they read.
    """

    def __init__(self, variable: str) -> None:
        self._variable, self._former = variable, os.environ.get(variable)

    def __call__(self, devices: tuple[str, ...]) -> None:
        """Show these. None: what the worker itself sees, for calls that need no GPU."""
        if threading.current_thread() is not threading.main_thread():
            return  # one of several bodies in this process: the variable is that of the others too
        if devices:
            os.environ[self._variable] = ",".join(devices)
        elif self._former is None:
            os.environ.pop(self._variable, None)
        else:
            os.environ[self._variable] = self._former
