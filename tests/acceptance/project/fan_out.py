"""A caller that waits for a fan-out until somebody interrupts it."""

import sys

from tasks import hold_many

hold_many(sys.argv[1])
