"""Sweep a grid of parameters, on this machine or on a cluster.

    python run.py                     with two workers on this machine
    python run.py --profile slurm     with jobs of a profile of fsqueue.toml

The second time, fits that are done cost nothing: their checkpoints are there.
"""

import argparse
from contextlib import AbstractContextManager
from pathlib import Path

from sweep import EPOCHS, app, fit

RATES = (0.1, 0.2, 0.5)
SEEDS = range(4)


def workers(profile: str | None) -> AbstractContextManager[object]:
    """Workers for the time of a block."""
    return app.launch(profile) if profile else app.workers(2, runner="thread", concurrency=2)


def main() -> None:
    """Run all fits, and print the best one for each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", help="a launch profile; default: workers on this machine")
    parser.add_argument("--folder", default="checkpoints", help="where the checkpoints are")
    given = parser.parse_args()
    folder = str(Path(given.folder).resolve())
    points = [(rate, seed, folder) for seed in SEEDS for rate in RATES]
    with workers(given.profile):
        fits = list(fit.parallelize(points).results)
    done = [(each["rate"], each["seed"], each["epoch"]) for each in fits]
    assert done == [(rate, seed, EPOCHS) for rate, seed, _ in points], done
    for seed in SEEDS:
        best = min((each for each in fits if each["seed"] == seed), key=lambda each: each["loss"])
        print(f"seed {seed}: rate {best['rate']}, loss {best['loss']:.2e}")


if __name__ == "__main__":
    main()
