"""Accounts for every call, from the ledgers and from the files in the spool."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos.caller import answer_of
from chaos.ledger import CallHistory, read_ledger, read_lines
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.limit_upkeep import recover_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fsqueue import FSQueue

# A process that died leaves at most the file that each of its threads was writing.
_FILES_OF_A_DEATH = 8
# In seconds; a worker ends its other slots when one of them has left their channel locked.
_AFTERMATH = 10.0
_REFUSAL = ("ENOSPC", "EDQUOT")


@dataclass(frozen=True)
class Violation:
    """Something that must not happen."""

    what: str
    key: str = ""
    id: str = ""


@dataclass
class Disturbances:
    """Disturbances by the conductor, which explain what is left in the spool."""

    killed: set[str] = field(default_factory=set)
    """Callers that were killed."""
    deaths: int = 0
    last: float = 0.0
    """When a process was last killed."""
    disk_was_full: bool = False


@dataclass
class Report:
    """The result of the accounting."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    histories: dict[str, CallHistory] = field(default_factory=dict)


def reconcile(app: FSQueue, base: Path, disturbances: Disturbances) -> Report:
    """Account for every call in the ledgers, after all processes have ended.

    Args:
        app: an application on the spool that has made no calls itself.
        base: the folder with the ledgers and the log of executions.
        disturbances: what the conductor did to the processes.
    """
    report = Report()
    for path in sorted((base / "ledgers").glob("*.jsonl")):
        histories, ended = read_ledger(path)
        report.histories |= histories
        if path.stem in disturbances.killed:
            continue
        if not ended:
            report.violations.append(Violation(f"caller {path.stem} has not ended properly"))
        report.violations += [
            Violation("no answer", key, history.id or "")
            for key, history in histories.items()
            if history.seen is None and history.refused is None
        ]
    runs: dict[str, list[str]] = defaultdict(list)
    for key, token in read_lines(base / "executions"):
        runs[key].append(token)
    _count_executions(report, runs)
    for key, history in report.histories.items():
        _check(report, app, key, history, runs)
    if not disturbances.disk_was_full and report.counts["refused"]:
        report.violations.append(Violation("calls were refused, and the disk was never full"))
    report.violations += _check_places(app, report, disturbances)
    return report


def _count_executions(report: Report, runs: dict[str, list[str]]) -> None:
    report.counts["executions"] = sum(map(len, runs.values()))
    report.counts["extra executions"] = report.counts["executions"] - len(runs)


# -- one call ------------------------------------------------------------------------------


def _check(
    report: Report, app: FSQueue, key: str, history: CallHistory, runs: dict[str, list[str]]
) -> None:
    report.counts["made"] += 1
    report.kinds[history.kind] += 1
    if history.refused is not None:
        report.counts["refused"] += 1
        if not history.refused.startswith(_REFUSAL):
            report.violations.append(Violation(f"refused: {history.refused}", key))
        return
    if history.id is None and history.seen is None:
        report.counts["in doubt"] += 1  # its caller was killed, and waits for nothing
        return
    report.counts["accepted"] += 1
    answers = [] if history.seen is None else [history.seen]
    if history.id is not None:
        answer = _read_again(app, history.id)
        if answer is None:
            report.counts["lost"] += 1
            report.violations.append(Violation("lost: it has no outcome", key, history.id))
            return
        answers.append(answer)
    if len(answers) > 1:
        report.counts["looked at twice"] += 1
        if answers[0] != answers[1]:
            report.counts["second outcomes"] += 1
            what = f"two outcomes: {answers[0]} was seen first, then {answers[1]}"
            report.violations.append(Violation(what, key, history.id or ""))
    _check_answer(report, key, history, answers[0], runs)


def _check_answer(
    report: Report, key: str, history: CallHistory, answer: list[Any], runs: dict[str, list[str]]
) -> None:
    *ending, tokens = answer
    if ending[:2] == ["error", "WorkerLostError"]:
        report.counts["WorkerLostError"] += 1
    if ending != history.expected:
        what = f"expected {history.expected}, got {answer}"
        report.violations.append(Violation(what, key, history.id or ""))
    elif not all(token in runs[part] for part, token in _parts(key, history, tokens)):
        report.violations.append(Violation("an answer of no execution", key, history.id or ""))


def _parts(key: str, history: CallHistory, tokens: str) -> Iterator[tuple[str, str]]:
    """The calls that an answer consists of, with the tokens of their executions."""
    if history.kind != "direct fan-out":
        yield key, tokens
        return
    for square, token in zip(history.expected[1], tokens.split(), strict=True):
        yield f"{key}/{math.isqrt(square)}", token


def _read_again(app: FSQueue, invocation_id: str) -> list[Any] | None:
    """Read an outcome again, from this process; nothing runs any more, so it must exist."""
    if app.store.outcomes.peek(invocation_id) is None:
        return None
    return answer_of(lambda: app.invocation(invocation_id).result)


# -- the spool -----------------------------------------------------------------------------


def _check_places(app: FSQueue, report: Report, disturbances: Disturbances) -> list[Violation]:
    layout = app.store.layout
    found = [
        *_leftovers(layout.pending_folder, "left in pending/"),
        *_leftovers(layout.running_folder, "left in running/"),
        *_leftovers(layout.quarantine_folder, "in quarantine/"),
        *_leftovers(layout.lanes_folder, "left in lanes/"),
        *_check_lanes(app),
    ]
    kept = {name for _, name in _files(layout.kept_folder)}
    done = {name for _, name in _files(layout.done_folder)}
    report.counts["late outcomes, never seen"] = len(kept & done)
    known = {history.id for history in report.histories.values()}
    report.counts["outcomes without a known call"] = len((kept | done) - known)
    found += _check_failed(layout.failed_folder, report)
    return [*found, *_check_temporary(layout.tmp_folder, report, disturbances)]


def _check_lanes(app: FSQueue) -> list[Violation]:
    """Permits of dead workers that neither the upkeep nor a recovery has freed."""
    recover_limits(app.store)
    lanes = os.listdir(app.store.layout.lanes_folder)
    return [Violation(f"permits are still taken in {name}") for name in lanes]


def _leftovers(folder: str, what: str) -> list[Violation]:
    found = []
    for _, name in _files(folder):
        attempt = AttemptName.parse(name)
        found.append(Violation(f"{what}: {name}", id=attempt.invocation_id if attempt else ""))
    return found


def _files(folder: str) -> Iterator[tuple[str, str]]:
    for where, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(where, name), name


def _check_failed(folder: str, report: Report) -> Iterator[Violation]:
    """A call in failed/ must have failed, and be there only once."""
    known = {history.id: history for history in report.histories.values()}
    attempts: Counter[str] = Counter()
    for _, name in _files(folder):
        attempt = AttemptName.parse(name)
        if attempt is None:
            yield Violation(f"in failed/: {name}")
            continue
        attempts[attempt.invocation_id] += 1
        history = known.get(attempt.invocation_id)
        if history is not None and history.expected[0] != "error":
            yield Violation(f"in failed/, and has not failed: {name}", id=attempt.invocation_id)
    report.counts["kept in failed/"] = attempts.total()
    for invocation_id, count in attempts.items():
        if count > 1:
            yield Violation("in failed/ twice", id=invocation_id)


def _check_temporary(
    folder: str, report: Report, disturbances: Disturbances
) -> Iterator[Violation]:
    """Only the files that a process was writing when it was killed may stay behind."""
    left = list(_files(folder))
    report.counts["left in tmp/"] = len(left)
    for path, name in left:
        age = os.stat(path).st_mtime - disturbances.last
        if age > _AFTERMATH:
            yield Violation(f"left in tmp/ {age:.1f} s after the last death: {name}")
    if len(left) > disturbances.deaths * _FILES_OF_A_DEATH:
        yield Violation(f"{len(left)} files in tmp/ after {disturbances.deaths} deaths")


# -- report -------------------------------------------------------------------------------


def describe(base: Path, root: str, violation: Violation) -> Iterator[str]:
    """Everything that is known about the call of a violation, line by line."""
    yield f"VIOLATION {violation.what}"
    key = violation.key
    if not key and violation.id:
        key = next((k for k, i in _accepted(base) if i == violation.id), "")
    if key:
        for path in [*sorted((base / "ledgers").glob("*.jsonl")), base / "executions"]:
            for entry in read_lines(path):
                if key in entry or any(str(each).startswith(f"{key}/") for each in entry):
                    yield f"  {path.name}: {entry}"
    if violation.id:
        for file_path, name in _files(root):
            if name == violation.id or name.startswith(f"{violation.id}."):
                yield f"  file {os.path.relpath(file_path, root)}"
                with open(file_path, "rb") as file:
                    yield f"    {file.readline()!r}"
                    yield f"    {file.readline()!r}"


def _accepted(base: Path) -> Iterator[tuple[str, str]]:
    for path in (base / "ledgers").glob("*.jsonl"):
        for entry in read_lines(path):
            if entry[0] == "accepted":
                yield entry[1], entry[2]
