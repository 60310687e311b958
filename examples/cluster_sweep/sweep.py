"""The tasks of the sweep: one fit for each point of a grid, with a checkpoint after each epoch."""

import json
import os
import time
from pathlib import Path
from typing import TypedDict

from fsqueue import FSQueue

app = FSQueue("sweep")

EPOCHS = 20
# Stands for the work of an epoch.
SECONDS = float(os.environ.get("SWEEP_EPOCH_SECONDS", "0.01"))


class Fit(TypedDict):
    """The state of a fit, which is also its checkpoint."""

    rate: float
    seed: int
    epoch: int
    loss: float


@app.task
def fit(rate: float, seed: int, folder: str) -> Fit:
    """Fit one model; a run that was cut off goes on from its last checkpoint.

    Args:
        rate: the learning rate.
        seed: chooses the first loss.
        folder: where checkpoints are, on a disk that all workers see.
    """
    path = Path(folder, f"rate-{rate}-seed-{seed}.json")
    state = load(path) or Fit(rate=rate, seed=seed, epoch=0, loss=1.0 + seed)
    while state["epoch"] < EPOCHS:
        time.sleep(SECONDS)
        state["loss"] *= 1 - rate
        state["epoch"] += 1
        save(path, state)
    return state


def load(path: Path) -> Fit | None:
    """The last checkpoint; None for a first run."""
    try:
        state: Fit = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return state


def save(path: Path, state: Fit) -> None:
    """Replace the checkpoint as a whole, as the run may be cut off at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a run that was taken for dead may still be writing.
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(state), "utf-8")
    new.replace(path)
