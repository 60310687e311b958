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
