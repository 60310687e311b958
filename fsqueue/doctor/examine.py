"""Runs all probes, and says what they make of the directory."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.doctor import basics, timing
from fsqueue.doctor.advice import recommend
from fsqueue.doctor.findings import Finding, Verdict, facts_of, worst
from fsqueue.doctor.life import PartnerLostError
from fsqueue.doctor.mountinfo import probe_mount
from fsqueue.doctor.partner import partner
from fsqueue.doctor.peer import examine_with_peer, meet
from fsqueue.doctor.races import examine_together
from fsqueue.doctor.workplace import LenientFilesystem, workplace
from fsqueue.environment.workdir import absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.advice import Setting
    from fsqueue.doctor.partner import Partner
    from fsqueue.doctor.party import Party
    from fsqueue.doctor.workplace import Workplace
    from fsqueue.spool.disk.filesystem import Filesystem

PROBES = (
    basics.modes,
    basics.space,
    basics.names,
    basics.folders,
    basics.links,
    basics.durability,
    timing.clock,
    timing.latency,
    timing.events,
)

_ALONE = (
    "other hosts share this directory: run `fsqueue doctor --peer` on two of them at the same time "
    "to see what each sees of the other's changes"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and what follows from it.

    Args:
        root: the directory.
        findings: of one host, in the order of the probes.
        between: findings between two hosts; empty without a peer.
        hosts: names of this host (``here``) and of the peer (``there``).
        settings: recommended ones.
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
        """The worst of all findings'."""
        return worst([*self.findings, *self.between])


def examine(
    root: str,
    *,
    group: int | None = None,
    peer: float | None = None,
    progress: Callable[[str], object] = lambda _: None,
    fs: Filesystem | None = None,
) -> Report:
    """Examine a directory that exists, in a folder of its own there, which is removed.

    Args:
        root: the directory.
        group: number of the group that is to share it.
        peer: seconds to wait for another host that examines it too; None: this host alone.
        progress: told what is going on.
        fs: verbs over system calls, or None for the usual ones.

    Raises:
        NoPeerError: no other host came.
        PartnerLostError: the other host left in the middle.
    """
    root = absolute(root)
    fs = fs or LenientFilesystem(group=group)
    findings = [probe_mount(root), basics.permissions(root, group)]
    pair: tuple[list[Finding], Mapping[str, str]] = ([], {})
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(workplace(root, fs))
        except OSError as error:
            findings.append(basics.writable(root, error))
            return Report(root, findings, *pair, [], [])
        second = stack.enter_context(partner(place))
        progress("examining from this host")
        findings += [_run(probe, place) for probe in PROBES]
        findings += _together(second.party)
        if peer is not None:
            pair = _between_hosts(place, second, peer, progress)
    alone = peer is None and facts_of(findings, "filesystem").get("remote")
    # What two hosts found out together counts for more: it comes first.
    settings = recommend([*pair[0], *findings])
    return Report(root, findings, *pair, settings, [_ALONE] if alone else [])


def _between_hosts(
    place: Workplace, second: Partner, patience: float, progress: Callable[[str], object]
) -> tuple[list[Finding], Mapping[str, str]]:
    progress(
        f"waiting up to {patience:g} s for another host: run `fsqueue doctor --peer {place.root}` "
        "there"
    )
    party = meet(place, patience)
    second.accompany(party.other)
    progress("examining together with another host")
    try:
        return _examine_with_peer(party)
    except BaseException as error:
        party.leave(_last_word(error))
        raise


def _examine_with_peer(party: Party) -> tuple[list[Finding], Mapping[str, str]]:
    """As it says; an error of one whose partner has left is that."""
    try:
        return examine_with_peer(party)
    except OSError as error:
        party.signs.look(at_once=True)
        gone = isinstance(error, FileNotFoundError)  # while the other one clears up
        if not gone and party.place.fs.has_folder(party.place.folder):
            raise
        raise PartnerLostError("the other examiner has left, and cleared up") from error


def _last_word(error: BaseException) -> str:
    if isinstance(error, PartnerLostError):
        return ""
    return "it was stopped" if isinstance(error, KeyboardInterrupt) else f"it failed: {error}"


def _together(party: Party) -> list[Finding]:
    try:
        party.exchange("hello")
        return examine_together(party)
    except (PartnerLostError, OSError) as error:
        return [
            Finding(
                "partner",
                Verdict.BAD,
                f"two processes cannot work together here: {error}",
                "callers and workers do nothing else",
                "use another filesystem",
            )
        ]


def _run(probe: Callable[[Workplace], Finding], place: Workplace) -> Finding:
    """A probe that is stopped by an error has found that error."""
    try:
        return probe(place)
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "")
        return Finding(
            probe.__name__,
            Verdict.BAD,
            f"failed: {error.strerror or error} {f'({code})' if code else ''}".rstrip(),
            "what a queue does all the time fails here",
            "see the error, or use another filesystem",
        )
