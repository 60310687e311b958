"""Makes calls, prints their ids and leaves."""

import os

from tasks import reject, square

print(square(7).id, reject("not this").id, os.getpid())
