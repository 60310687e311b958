"""Runs all probes on a directory, and reports the findings."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.doctor import basics, timing
from fsqueue.doctor.advice import recommend
from fsqueue.doctor.findings import Finding, Verdict, facts_of, worst
from fsqueue.doctor.heartbeat import PartnerLostError
from fsqueue.doctor.mount_options import probe_mount
from fsqueue.doctor.partner import partner
from fsqueue.doctor.races import examine_jointly
from fsqueue.doctor.rendezvous import examine_with_peer, meet
from fsqueue.doctor.workspace import LenientFilesystem, workspace
from fsqueue.environment.workdir import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.advice import Setting
    from fsqueue.doctor.partner import Partner
    from fsqueue.doctor.session import Session
    from fsqueue.doctor.workspace import Workspace
    from fsqueue.spool.disk.filesystem import Filesystem

PROBES = (
    basics.modes,
    basics.space,
    basics.names,
    basics.folders,
    basics.links,
    basics.symbolic_links,
    basics.durability,
    timing.clock,
    timing.latency,
    timing.events,
)

# The default of the setting.
_WEEK = 7 * 86_400.0

_ALONE = (
    "other hosts share this directory: run `fsqueue doctor --peer` on two of them at the same time "
    "to measure how each sees the other's changes"
)


@dataclass(frozen=True, slots=True)
class Report:
    """The report of an examination.

    Args:
        root: the directory.
        findings: findings on this host, in the order of the probes.
        between: findings between two hosts; empty without a peer.
        hosts: names of this host (``here``) and of the peer (``there``).
        settings: recommended settings.
        notes: what was not examined.
    """

    root: str
    findings: list[Finding]
    between: list[Finding]
    hosts: Mapping[str, str]
    settings: list[Setting]
    notes: list[str]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all findings."""
        return worst([*self.findings, *self.between])


def examine(
    root: str,
    *,
    group: int | None = None,
    result_ttl: float = _WEEK,
    peer: float | None = None,
    progress: Callable[[str], object] = lambda _: None,
    fs: Filesystem | None = None,
) -> Report:
    """Examine an existing directory, in a temporary folder there.

    Args:
        root: the directory.
        group: number of the group that shares it.
        result_ttl: seconds for which a spool there keeps results.
        peer: longest time to wait for another host that examines it too, in seconds; None: examine
            it from this host alone.
        progress: called with a line of text about each stage.
        fs: the filesystem; None: one that ignores errors on setting modes.

    Raises:
        NoPeerError: no other host came.
        PartnerLostError: the other host left before the end.
    """
    root = absolute(root)
    fs = fs or LenientFilesystem(group=group)
    findings = [probe_mount(root), basics.permissions(root, group)]
    pair: tuple[list[Finding], Mapping[str, str]] = ([], {})
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(workspace(root, fs))
        except OSError as error:
            findings.append(basics.writable(root, error))
            return Report(root, findings, *pair, [], [])
        second = stack.enter_context(partner(place))
        progress("examining from this host")
        findings += [_run(probe, place) for probe in PROBES]
        with contextlib.suppress(OSError):  # the probes have already reported what fails there
            findings += filter(None, [basics.results(place, result_ttl)])
        findings += _examine_with_partner(second.session)
        if peer is not None:
            pair = _between_hosts(place, second, peer, progress)
    alone = peer is None and facts_of(findings, "filesystem").get("remote")
    # The findings of two hosts count for more, so they come first.
    settings = recommend([*pair[0], *findings])
    return Report(root, findings, *pair, settings, [_ALONE] if alone else [])


def _between_hosts(
    place: Workspace, second: Partner, patience: float, progress: Callable[[str], object]
) -> tuple[list[Finding], Mapping[str, str]]:
    progress(
        f"waiting up to {patience:g} s for another host: run `fsqueue doctor --peer {place.root}` "
        "there"
    )
    session = meet(place, patience)
    second.start_heartbeat(session.other)
    progress("examining together with another host")
    try:
        return _examine_with_peer(session)
    except BaseException as error:
        session.leave(_why_it_left(error))
        raise


def _examine_with_peer(session: Session) -> tuple[list[Finding], Mapping[str, str]]:
    """Examine together; if the other host has left, report an error as that."""
    try:
        return examine_with_peer(session)
    except OSError as error:
        session.heartbeat.check(at_once=True)
        gone = isinstance(error, FileNotFoundError)  # expected while the other host clears up
        if not gone and session.place.fs.has_folder(session.place.folder):
            raise
        raise PartnerLostError("the other examiner has left, and cleared up") from error


def _why_it_left(error: BaseException) -> str:
    if isinstance(error, PartnerLostError):
        return ""
    return "it was stopped" if isinstance(error, KeyboardInterrupt) else f"it failed: {error}"


def _examine_with_partner(session: Session) -> list[Finding]:
    try:
        session.exchange("hello")
        return examine_jointly(session)
    except (PartnerLostError, OSError) as error:
        return [
            Finding(
                "partner",
                Verdict.BAD,
                f"two processes cannot work together here: {error}",
                "callers and workers work together all the time",
                "use another filesystem",
            )
        ]


def _run(probe: Callable[[Workspace], Finding], place: Workspace) -> Finding:
    """Run a probe; if an error stops it, the error becomes its finding."""
    try:
        return probe(place)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "")
        return Finding(
            probe.__name__,
            Verdict.BAD,
            f"failed: {error.strerror or error} {f'({code})' if code else ''}".rstrip(),
            "an operation that a queue needs all the time fails here",
            "see the error, or use another filesystem",
        )
