"""Presents the figures of `compare.py`: tables and targets."""

from typing import NamedTuple

from rich.table import Table

LIMIT = "ProcessPoolExecutor"
SUBJECT = "fsqueue"


class Target(NamedTuple):
    """A ratio that fsqueue should meet, measured in one run."""

    name: str
    value: float | None
    bound: float
    at_most: bool

    @property
    def met(self):
        """Whether the ratio meets its bound."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def figure(found, peer, workload, **keys):
    """The figures of a peer for a workload; None if there are none."""
    for each in found["peers"].get(peer, ()):
        if each["workload"] == workload and all(each.get(key) == keys[key] for key in keys):
            return each
    return None


def seconds(found, peer, workload, **keys):
    got = figure(found, peer, workload, **keys)
    return got.get("seconds") if got else None


def rate(got):
    return got["count"] / got["seconds"]


def amount(value):
    """A number with three significant digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def bytes_text(size):
    for unit, factor in (("MB", 10**6), ("KB", 10**3)):
        if size >= factor:
            return f"{size // factor} {unit}"
    return f"{size} B"


# -- the table --------------------------------------------------------------------------------


def columns(found):
    """The columns: heading, workload, and the function that makes a cell from its figures."""
    spec = found["specification"]

    def calls(got):
        return f"{rate(got):,.0f}" if "seconds" in got else "left out"

    def percent(got):
        return f"{got['percent']:.1f}"

    def milliseconds(got):
        return amount(1e3 * got["seconds"])

    yield "round trip p50, ms", ("round trip", {}), milliseconds
    yield "p99, ms", ("round trip", {}), lambda got: amount(1e3 * got["p99"])
    for count in spec["fan_outs"]:
        yield f"fan-out of {count:,}, calls/s", ("fan-out", {"count": count}), calls
    yield "submit, calls/s", ("submit", {}), calls
    for size in spec["sizes"]:
        yield f"{bytes_text(size)}, ms", ("payload", {"size": size}), milliseconds
    yield "idle workers, % of a core", ("idle workers", {}), percent
    yield "blocked caller, %", ("blocked caller", {}), percent


def rows(found):
    """The rows: one for each peer, and one for each batch size of fsqueue."""
    for peer, figures in found["peers"].items():
        cells = [peer]
        for _, (workload, keys), shown in columns(found):
            got = figure(found, peer, workload, **keys)
            cells.append(shown(got) if got else "-")
        yield cells
        for size in dict.fromkeys(
            each["size"] for each in figures if each["workload"] == "batched"
        ):
            yield [f"{peer}, batches: {size}", *_batch_cells(found, peer, size)]
    yield ["writing and reading the file once", *_bare_cells(found)]


def _batch_cells(found, peer, size):
    for _, (workload, keys), _ in columns(found):
        got = figure(found, peer, "batched", size=size, **keys) if workload == "fan-out" else None
        yield f"{rate(got):,.0f}" if got else ""


def _bare_cells(found):
    for _, (workload, keys), _ in columns(found):
        got = figure(found, SUBJECT, workload, **keys) if workload == "payload" else None
        yield amount(1e3 * got["bare"]) if got else ""


def table(found):
    shown = Table("", *(heading for heading, _, _ in columns(found)))
    for cells in rows(found):
        shown.add_row(*cells)
    return shown


def markdown(found):
    headings = ["", *(heading for heading, _, _ in columns(found))]
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows(found)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def remarks(found):
    """Notes on peers that have no figures, or not all."""
    for peer, figures in found["peers"].items():
        for each in figures:
            if each["workload"] == "error":
                yield f"{peer}: {each['reason']}"
            elif "skipped" in each:
                yield f"{peer}: fan-out of {each['count']:,} left out: {each['skipped']}"


# -- targets ----------------------------------------------------------------------------------


def targets(found):
    """The ratios of a run; a ratio has no value if one of its figures is missing."""
    smallest, largest = (
        found["specification"]["fan_outs"][0],
        found["specification"]["fan_outs"][-1],
    )
    ours = seconds(found, SUBJECT, "round trip")
    theirs = seconds(found, LIMIT, "round trip")
    yield Target("round trip p50 / ProcessPoolExecutor's", _ratio(ours, theirs), 5, at_most=True)
    ours = seconds(found, SUBJECT, "fan-out", count=smallest)
    theirs = seconds(found, LIMIT, "fan-out", count=smallest)
    name = f"fan-out of {smallest:,}, rate / ProcessPoolExecutor's"
    yield Target(name, _ratio(theirs, ours), 0.45, at_most=False)
    for size in found["specification"]["batches"]:
        batched = seconds(found, SUBJECT, "batched", size=size, count=largest)
        single = seconds(found, SUBJECT, "fan-out", count=largest)
        name = f"fan-out of {largest:,}, rate in batches ({size}) / unbatched"
        yield Target(name, _ratio(single, batched), 5, at_most=False)
    size = found["specification"]["sizes"][-1]
    got = figure(found, SUBJECT, "payload", size=size)
    name = f"argument of {bytes_text(size)} / writing and reading the file once"
    if size >= 10**8:
        yield Target(name, got["ratio"] if got else None, 1.5, at_most=True)


def _ratio(one, other):
    return one / other if one and other else None


def targets_table(found):
    shown = Table("target", "measured", "wanted", "")
    for target in targets(found):
        wanted = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
        if target.value is None:
            shown.add_row(target.name, "-", wanted, "not measured")
        else:
            verdict = "met" if target.met else "[bold red]missed[/]"
            shown.add_row(target.name, f"{target.value:.2f}", wanted, verdict)
    return shown
