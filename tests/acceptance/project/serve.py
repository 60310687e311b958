"""A script that is a worker itself, in its main thread."""

from tasks import app

if __name__ == "__main__":
    print("starting", flush=True)
    app.runner.run()
    print("returned", flush=True)
