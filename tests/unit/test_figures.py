"""The measured figures of the documentation against the file that has them all."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402 - its folder is not on the path

FIGURES = figures.load()
TABLES = FIGURES["table"]
# A number with a unit that only a measurement gives.
_MEASURED = re.compile(
    r"\d[\d,.]* (?:ms|us|\u00b5s|MB|GB|calls/s|calls a second|% of a core)(?![\w/])"
)
_PROGRAM = 'if __name__ == "__main__":'


@pytest.mark.parametrize("page", figures.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_figures_of_a_page_are_those_of_the_file(page):
    text = page.read_text("utf-8")
    assert text == figures.filled(text, FIGURES), "run `python benchmarks/figures.py`"


def test_the_chart_is_drawn_from_the_file():
    drawn = figures.CHART.read_text("utf-8")
    assert drawn == figures.chart(FIGURES), "run `python benchmarks/figures.py`"


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md", "docs/filesystems.md"])
def test_these_pages_have_no_figures_by_hand(page):
    text = figures.BLOCK.sub("", (ROOT / page).read_text("utf-8"))
    assert not _MEASURED.findall(text)


def test_each_table_is_shown_somewhere():
    shown = {
        name for page in figures.pages() for _, name, _ in figures.BLOCK.findall(page.read_text())
    }
    assert shown == {"readme", *TABLES}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_says_how_its_figures_were_taken(name):
    table = TABLES[name]
    assert (ROOT / table["command"].split()[0]).exists()
    assert table["date"]
    assert table["machine"]
    assert all(0 < len(row) <= len(table["columns"]) for row in table["rows"])


def test_each_benchmark_is_described():
    described = re.findall(
        r"^\| `(\w+\.py)` \|", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE
    )
    programs = {
        path.name for path in (ROOT / "benchmarks").glob("*.py") if _PROGRAM in path.read_text()
    }
    # nfs.py starts the first one on its guests; the second one measures nothing.
    assert set(described) == programs - {"nfs_steps.py", "figures.py"}
