"""Sets the environment variable that tells a slot process which GPUs its call may use."""

from __future__ import annotations

import os
import threading


class ShownDevices:
    """Tells the libraries of this process, and the programs that it starts, which GPUs to use.

    Args:
        variable: the environment variable that they read.
    """

    def __init__(self, variable: str) -> None:
        self._variable, self._former = variable, os.environ.get(variable)

    def __call__(self, devices: tuple[str, ...]) -> None:
        """Set the GPUs. An empty tuple, for calls without GPUs, restores the worker's own value."""
        if threading.current_thread() is not threading.main_thread():
            return  # other bodies of this process share the variable
        if devices:
            os.environ[self._variable] = ",".join(devices)
        elif self._former is None:
            os.environ.pop(self._variable, None)
        else:
            os.environ[self._variable] = self._former
