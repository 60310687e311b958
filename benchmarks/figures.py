"""Writes the measured figures, all of which are in ``figures.toml``, into the documentation.

A page has them between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``, where NAME is
a table of the file, or ``readme``. The chart of the page on performance is drawn from them as well.
``tests/unit/test_figures.py`` compares the pages with the file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import charts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CHART = ROOT / "docs" / "benchmarks.svg"
CHARTED = {
    "round trip, median": "Round trip of a no-op call, median (shorter is better; logarithmic)",
    "fan-out of 2,000": "Fan-out of 2,000 no-op calls (longer is better; logarithmic)",
}
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def load():
    return tomllib.loads((HERE / "figures.toml").read_text("utf-8"))


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text, figures):
    """The text of a page with all its figures."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{_block(found[2], figures)}\n{found[3]}", text)


def cell(figures, table, row, column):
    """One figure, by the names of its table, row and column."""
    found = figures["table"][table]
    (cells,) = (each for each in found["rows"] if each[0] == row)
    return dict(zip(found["columns"], cells, strict=False)).get(column, "")


def chart(figures):
    """The chart of a few columns of the comparison, as SVG."""
    rows = [each[0] for each in figures["table"]["compare"]["rows"]]
    panels = []
    for column, title in CHARTED.items():
        cells = [(row, cell(figures, "compare", row, column)) for row in rows]
        panels.append((title, [(row, _number(text), text) for row, text in cells if text]))
    return charts.bars(panels)


def _number(text):
    found = re.match(r"[\d,.]+", text)
    return float(found[0].replace(",", "")) if found else None


def _block(name, figures):
    if name == "readme":
        rows = [[each["what"], cell(figures, *each["of"])] for each in figures["readme"]]
        return _markdown(["", "figure"], rows)
    table = figures["table"][name]
    place = f", on {table['where']}" if "where" in table else ""
    source = f"`{table['command']}`, {table['date']}{place}; {table['machine']}:\n\n"
    note = f"\n{table['note'].strip()}\n" if "note" in table else ""
    return source + _markdown(table["columns"], table["rows"]) + note


def _markdown(columns, rows):
    padded = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    lines = [columns, ["---"] * len(columns), *padded]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main():
    figures = load()
    for page in pages():
        text = page.read_text("utf-8")
        page.write_text(filled(text, figures), "utf-8")
    CHART.write_text(chart(figures), "utf-8")


if __name__ == "__main__":
    main()
