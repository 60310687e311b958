"""Accounts for every call, from the ledgers and from what lies in the spool."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaos.caller import answer_of
from chaos.ledger import Story, read_ledger, read_lines
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.worker.limit_upkeep import recover_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fsqueue import FSQueue

# A process that died leaves at most what each of its threads was writing.
_FILES_OF_A_DEATH = 8
# A worker ends its other slots when one of them has left their channel locked.
_AFTERMATH = 10.0
_REFUSAL = ("ENOSPC", "EDQUOT")


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    what: str
    key: str = ""
    id: str = ""


@dataclass
class Violence:
    """What the conductor did that explains what is left."""

    killed: set[str] = field(default_factory=set)
    """Callers that were killed."""
    deaths: int = 0
    last: float = 0.0
    """When a process was last killed."""
    disk_was_full: bool = False


@dataclass
class Report:
    """The account."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    stories: dict[str, Story] = field(default_factory=dict)


def reconcile(app: FSQueue, base: Path, violence: Violence) -> Report:
    """Account for every call that stands in a ledger, when all is quiet.

    Args:
        app: on the spool; it has made no call itself.
        base: the folder with the ledgers and the log of executions.
        violence: what was done to the processes.
    """
    report = Report()
    for path in sorted((base / "ledgers").glob("*.jsonl")):
        stories, ended = read_ledger(path)
        report.stories |= stories
        if path.stem in violence.killed:
            continue
        if not ended:
            report.violations.append(Violation(f"caller {path.stem} has not ended in order"))
        report.violations += [
            Violation("no answer", key, story.id or "")
            for key, story in stories.items()
            if story.seen is None and story.refused is None
        ]
    runs: dict[str, list[str]] = defaultdict(list)
    for key, token in read_lines(base / "executions"):
        runs[key].append(token)
    _count_executions(report, runs)
    for key, story in report.stories.items():
        _check(report, app, key, story, runs)
    if not violence.disk_was_full and report.counts["refused"]:
        report.violations.append(Violation("calls were refused, and the disk was never full"))
    report.violations += _check_places(app, report, violence)
    return report


def _count_executions(report: Report, runs: dict[str, list[str]]) -> None:
    report.counts["executions"] = sum(map(len, runs.values()))
    report.counts["extra executions"] = report.counts["executions"] - len(runs)


# -- one call ------------------------------------------------------------------------------


def _check(
    report: Report, app: FSQueue, key: str, story: Story, runs: dict[str, list[str]]
) -> None:
    report.counts["made"] += 1
    report.kinds[story.kind] += 1
    if story.refused is not None:
        report.counts["refused"] += 1
        if not story.refused.startswith(_REFUSAL):
            report.violations.append(Violation(f"refused: {story.refused}", key))
        return
    if story.id is None and story.seen is None:
        report.counts["in doubt"] += 1  # its caller was killed and has no claim
        return
    report.counts["accepted"] += 1
    answers = [] if story.seen is None else [story.seen]
    if story.id is not None:
        answer = _look(app, story.id)
        if answer is None:
            report.counts["lost"] += 1
            report.violations.append(Violation("lost: it has no outcome", key, story.id))
            return
        answers.append(answer)
    if len(answers) > 1:
        report.counts["looked at twice"] += 1
        if answers[0] != answers[1]:
            report.counts["second outcomes"] += 1
            what = f"two outcomes: {answers[0]} was seen first, then {answers[1]}"
            report.violations.append(Violation(what, key, story.id or ""))
    _check_answer(report, key, story, answers[0], runs)


def _check_answer(
    report: Report, key: str, story: Story, answer: list[Any], runs: dict[str, list[str]]
) -> None:
    *told, tokens = answer
    if told[:2] == ["error", "WorkerLostError"]:
        report.counts["WorkerLostError"] += 1
    if told != story.expected:
        what = f"expected {story.expected}, got {answer}"
        report.violations.append(Violation(what, key, story.id or ""))
    elif not all(token in runs[part] for part, token in _parts(key, story, tokens)):
        report.violations.append(Violation("an answer of no execution", key, story.id or ""))


def _parts(key: str, story: Story, tokens: str) -> Iterator[tuple[str, str]]:
    """The calls that an answer is made of, with the tokens of their executions."""
    if story.kind != "direct fan-out":
        yield key, tokens
        return
    for square, token in zip(story.expected[1], tokens.split(), strict=True):
        yield f"{key}/{math.isqrt(square)}", token


def _look(app: FSQueue, invocation_id: str) -> list[Any] | None:
    """A second look by another process; nothing is running any more, so it must be there."""
    if app.store.outcomes.peek(invocation_id) is None:
        return None
    return answer_of(lambda: app.invocation(invocation_id).result)


# -- the spool -----------------------------------------------------------------------------


def _check_places(app: FSQueue, report: Report, violence: Violence) -> list[Violation]:
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
    known = {story.id for story in report.stories.values()}
    report.counts["outcomes nobody asked for"] = len((kept | done) - known)
    found += _check_failed(layout.failed_folder, report)
    return [*found, *_check_temporary(layout.tmp_folder, report, violence)]


def _check_lanes(app: FSQueue) -> list[Violation]:
    """Upkeep has freed the places of the dead, or would do so now."""
    recover_limits(app.store)
    lanes = os.listdir(app.store.layout.lanes_folder)
    return [Violation(f"places are still taken in {name}") for name in lanes]


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
    """A call that is kept as failed has failed, and lies there once."""
    known = {story.id: story for story in report.stories.values()}
    attempts: Counter[str] = Counter()
    for _, name in _files(folder):
        attempt = AttemptName.parse(name)
        if attempt is None:
            yield Violation(f"in failed/: {name}")
            continue
        attempts[attempt.invocation_id] += 1
        story = known.get(attempt.invocation_id)
        if story is not None and story.expected[0] != "error":
            yield Violation(f"in failed/, and has not failed: {name}", id=attempt.invocation_id)
    report.counts["kept in failed/"] = attempts.total()
    for invocation_id, count in attempts.items():
        if count > 1:
            yield Violation("in failed/ twice", id=invocation_id)


def _check_temporary(folder: str, report: Report, violence: Violence) -> Iterator[Violation]:
    """What is being written when a process is killed stays behind; nothing else does."""
    left = list(_files(folder))
    report.counts["left in tmp/"] = len(left)
    for path, name in left:
        age = os.stat(path).st_mtime - violence.last
        if age > _AFTERMATH:
            yield Violation(f"left in tmp/ {age:.1f} s after the last death: {name}")
    if len(left) > violence.deaths * _FILES_OF_A_DEATH:
        yield Violation(f"{len(left)} files in tmp/ after {violence.deaths} deaths")


# -- telling -------------------------------------------------------------------------------


def story_of(base: Path, root: str, violation: Violation) -> Iterator[str]:
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
