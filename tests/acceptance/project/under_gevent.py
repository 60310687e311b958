"""Greenlets that make calls, in a program whose standard library gevent has patched."""

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402 - after the patches
import tasks  # noqa: E402
from echo import echo  # noqa: E402


def ticking(done):
    """Counts while the other greenlets wait."""
    ticks = 0
    while not done:
        gevent.sleep(0.001)
        ticks += 1
    return ticks


def main():
    done = []
    ticker = gevent.spawn(ticking, done)
    calls = [gevent.spawn(echo, number) for number in range(20)]
    late = [tasks.square(number) for number in range(5)]
    waits = [gevent.spawn(call.get, 60) for call in late]
    gevent.joinall([*calls, *waits], raise_error=True)
    assert [call.value for call in calls] == list(range(20))
    assert [wait.value[0] for wait in waits] == [0, 1, 4, 9, 16], [wait.value for wait in waits]
    killed = gevent.spawn(tasks.square(2).get, 60)
    killed.kill()
    assert echo("after") == "after"
    done.append(True)
    assert ticker.get() > 1
    tasks.app.close()
    print("all")


main()
