import threading

from support import wait_until

from fsqueue.runner.loop.thread_pacing import _LONGEST_RAMP, _RAMP, ThreadPacer


def leaves(pacer, *, others=1, ended=1000, body=0.0):
    """Whether a thread should leave after `ended` calls whose bodies took `body` seconds."""
    for _ in range(ended):
        pacer.add(body / ended)
    return pacer.is_too_large(others)


def test_threads_leave_one_by_one_while_calls_end_quickly():
    pacer = ThreadPacer(waits=False)
    for _ in range(3):
        wait_until(lambda: leaves(pacer))
        assert not leaves(pacer)


def test_threads_stay_that_are_alone_or_wait_or_end_few_calls():
    pacer = ThreadPacer(waits=False)
    stay = {
        "alone": lambda each: leaves(each, others=0),
        "in bodies": lambda each: leaves(each, body=1.0),
        "few": lambda each: leaves(each, ended=0),
    }
    pacers = {why: ThreadPacer(waits=False) for why in stay} | {
        "file server": ThreadPacer(waits=True)
    }
    stay["file server"] = leaves

    def one_has_left():
        assert not any(stay[why](each) for why, each in pacers.items())
        return leaves(pacer)

    for _ in range(3):
        wait_until(one_has_left)


def test_threads_that_keep_up_are_checked_less_often():
    pacer, wake = ThreadPacer(waits=False), threading.Event()

    def quick():
        for _ in range(1000):
            pacer.add(0.0)
        return True

    for _ in range(5):
        assert pacer.keeps_up(wake.wait, quick)
    assert pacer._ramp == _LONGEST_RAMP
    assert not pacer.keeps_up(wake.wait, lambda: True)
    assert pacer._ramp == _RAMP
    assert not pacer.keeps_up(wake.wait, lambda: False), "nobody is at work"
