"""``fsqueue doctor``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, NoReturn

import click

from fsqueue.cli.command import argument, flag, option, subcommand
from fsqueue.cli.options import app_option, json_option, seconds
from fsqueue.common.printable import printable
from fsqueue.config import load_config
from fsqueue.doctor.advice import as_toml
from fsqueue.doctor.findings import Verdict
from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.access import group_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.doctor.examine import Report
    from fsqueue.doctor.findings import Finding
    from fsqueue.doctor.workspace import Stop

FIT: Final = 0
WEAK_POINTS: Final = 1
UNFIT: Final = 2
"""The directory is unfit, or was not examined: a usage error, or no other host came."""

_EXIT: Final = {Verdict.OK: FIT, Verdict.WEAK: WEAK_POINTS, Verdict.BAD: UNFIT}
_WORDS: Final = {
    Verdict.OK: "fit for a queue",
    Verdict.WEAK: "a queue works here, with weak points",
    Verdict.BAD: "unfit for a queue",
}
_LAUNCH_WORDS: Final = {
    Verdict.OK: "workers can run there",
    Verdict.WEAK: "workers can run there, with weak points",
    Verdict.BAD: "workers cannot run there",
}
_LONGEST_WAIT = 1800
_WIDTH = 100
_INDENT = " " * 7


@subcommand("doctor", "doctor /shared/queue", "doctor --launch slurm")
@argument("root", metavar="[ROOT]", required=False, help="The shared directory.")
@flag("--peer", help="Examine it together with another host that runs the same command.")
@option(
    "--wait",
    type=seconds(least=1, most=_LONGEST_WAIT),
    default="120",
    metavar="DURATION",
    help="Longest time to wait for the other host, or for the job to start: 1 second to 30 "
    "minutes.",
)
@option("--launch", "profile", metavar="PROFILE", help="Examine the nodes of a launch profile.")
@app_option
@json_option
def command(
    root: str | None,
    peer: bool,
    wait: float,
    profile: str | None,
    app: str | None,
    as_json: bool,
) -> None:
    """Check whether a directory is fit to be a spool.

    Also prints the settings that suit the directory. The command makes files in a folder there
    and removes them again. It does not touch a spool that is already there.

    With --launch it submits one job of two minutes, which checks from inside whether workers can
    run there, and which signals the batch system sends.

    Exit code: 0 if the directory is fit, 1 if it is fit with weak points, 2 if it is unfit or
    could not be examined.
    """
    # Imported here: no other command needs the examination.
    from fsqueue.doctor.examine import examine
    from fsqueue.doctor.workspace import LenientFilesystem

    if profile is not None:
        _examine_launch(profile, app, wait, as_json=as_json)
    if root is None:
        configured = load_config({}).root
        such = f", such as {os.path.abspath(configured)}" if configured is not None else ""
        _refuse(f"which directory? Give ROOT{such}, or --launch PROFILE for the nodes of a profile")
    if not os.path.isdir(root):
        _refuse(f"{root} is not a directory: make it first")
    with _stoppable() as stop:
        try:
            conf = load_config({"root": root})
            group = None if conf.group is None else group_number(conf.group)
            report = examine(
                root,
                group=group,
                result_ttl=conf.result_ttl,
                fs=LenientFilesystem(group=group, stop=stop),
                peer=wait if peer else None,
                progress=_report_progress,
            )
        except (FSQueueError, OSError) as error:
            _refuse(str(error))
        except KeyboardInterrupt:
            _refuse("stopped; all files of the examination were removed")
    print(_as_json(report) if as_json else printable(_as_text(report), keep="\n"))
    raise click.exceptions.Exit(_EXIT[report.verdict])


def _examine_launch(profile: str, app: str | None, wait: float, *, as_json: bool) -> NoReturn:
    """Examine the compute nodes of a profile; ends with the exit code."""
    from fsqueue.cli.start.profiles import open_launch
    from fsqueue.doctor.findings import worst
    from fsqueue.launch.examination import Times, examine_nodes

    try:
        target, (template,) = open_launch((profile,), app, None, {})
        try:
            findings = examine_nodes(
                target.app.store, template, times=Times(wait=wait), report=_report_progress
            )
        finally:
            target.app.close()
    except (FSQueueError, OSError) as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        _refuse("stopped; the job was cancelled")
    verdict = worst(findings)
    if as_json:
        document = {"profile": profile, "verdict": verdict, "findings": list(map(_plain, findings))}
        print(json.dumps(document, indent=2))
    else:
        text = "\n".join([f"launch.{profile}: {_LAUNCH_WORDS[verdict]}", "", *_section(findings)])
        print(printable(text, keep="\n"))
    raise click.exceptions.Exit(_EXIT[verdict])


def _refuse(message: str) -> NoReturn:
    print(f"fsqueue: {printable(message)}", file=sys.stderr)
    raise click.exceptions.Exit(UNFIT)


def _report_progress(text: str) -> None:
    print(f"fsqueue: {printable(text)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[Stop]:
    """End the examination at the first stop signal; later ones must not end the clearing up."""
    from fsqueue.doctor.workspace import Stop

    stop = Stop()
    # Signals that are ignored stay ignored: by nohup, or by a shell for its background jobs.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]

    def request_stop(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        stop.wanted = True

    before = {number: signal.signal(number, request_stop) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_json(report: Report) -> str:
    return json.dumps(
        {
            "root": report.root,
            "verdict": report.verdict,
            "findings": [_plain(each) for each in report.findings],
            "between": [_plain(each) for each in report.between],
            "hosts": dict(report.hosts),
            "settings": [asdict(each) for each in report.settings],
            "notes": report.notes,
        },
        indent=2,
    )


def _plain(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "verdict": finding.verdict,
        "measured": finding.measured,
        "meaning": finding.meaning,
        "advice": finding.advice,
        "facts": dict(finding.facts),
    }


def _as_text(report: Report) -> str:
    lines = [f"{report.root}: {_WORDS[report.verdict]}", ""]
    lines += _section(report.findings)
    if report.between:
        lines += ["", f"between {report.hosts['here']} and {report.hosts['there']}:", ""]
        lines += _section(report.between)
    for note in report.notes:
        lines += ["", *textwrap.wrap(note, _WIDTH)]
    if report.settings and report.verdict is not Verdict.BAD:
        lines += ["", "# fsqueue.toml", as_toml(report.root, report.settings)]
    return "\n".join(lines)


def _section(findings: list[Finding]) -> list[str]:
    width = max(len(each.name) for each in findings)
    lines = []
    for each in findings:
        head = f"{each.verdict:<5}{each.name:<{width}}  "
        lines += _wrapped(head, " " * len(head), each.measured)
        if each.verdict is not Verdict.OK:
            lines += _wrapped(_INDENT, _INDENT, each.meaning)
            if each.advice:
                lines += _wrapped(f"{_INDENT}-> ", f"{_INDENT}   ", each.advice)
    return lines


def _wrapped(first: str, rest: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
