"""An application that takes its time to be imported: until a file called go is there."""

import os
import time
from pathlib import Path

Path("importing").touch()
while not os.path.exists("go"):
    time.sleep(0.01)

from tasks import app  # noqa: E402, F401
