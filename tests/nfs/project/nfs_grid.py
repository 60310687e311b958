"""A grid search by joblib's backend: ``python nfs_grid.py FOLDER`` prints one line of JSON."""

import json
import sys

import joblib
from nfs_tasks import host, note, wait_for
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

import fsqueue.integrations.joblib  # noqa: F401 - registers the backend

JOBS = 3


class Held(TransformerMixin, BaseEstimator):
    """Changes nothing. Notes where it is fitted, and on b waits for a file that never comes."""

    def __init__(self, folder=""):
        self.folder = folder

    def fit(self, X, y=None):  # noqa: ARG002 - scikit-learn's names
        if self.folder:
            note(self.folder, host())
            if host() == "b":
                wait_for(self.folder, "never")
        return self

    def transform(self, X):
        return X


def scores(folder, jobs):
    X, y = (each[:150] for each in load_digits(return_X_y=True))
    model = make_pipeline(Held(folder), SVC())
    grid = {"svc__C": [0.1, 1, 10, 100], "svc__gamma": ["scale", 0.001]}
    search = GridSearchCV(model, grid, cv=3, n_jobs=jobs).fit(X, y)
    return [*search.cv_results_["mean_test_score"], search.best_score_]


def main(folder):
    expected = scores("", 1)
    print("ready", flush=True)
    with joblib.parallel_config("fsqueue", n_jobs=JOBS):
        found = scores(folder, JOBS)
    wrong = [pair for pair in zip(expected, found, strict=True) if abs(pair[0] - pair[1]) > 1e-12]
    print(json.dumps({"count": len(found), "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1])
