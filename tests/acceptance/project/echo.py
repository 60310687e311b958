"""Short tasks of the acceptance tests, for programs that make very many calls."""

from tasks import app


@app.direct_task
def echo(value):
    return value


@app.direct_task(
    parallel_func=lambda call: [(number,) for number in range(call["number"])], aggregate_func=list
)
def squares(number):
    return number * number


@app.task
def square_later(number):
    return number * number


@app.direct_task
async def echo_awaited(value):
    return value


@app.direct_task(
    parallel_func=lambda call: [(number,) for number in range(call["number"])], aggregate_func=list
)
async def squares_awaited(number):
    return number * number


@app.task(registration_concurrency="arguments")
def square_once(number):
    return number * number


@app.direct_task
def interrupted_here(entry, count):
    """Make calls from this body, in the main thread of a process slot, and interrupt them."""
    import interrupted

    return interrupted.by_timer(interrupted.CALLS[entry], count)
