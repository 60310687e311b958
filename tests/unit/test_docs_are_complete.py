"""Lists in the documentation against what they list."""

import builtins
import re
import tomllib
from pathlib import Path

import pytest

import fsqueue
from fsqueue.cli.commands import SECTIONS
from fsqueue.spool.format.layout import Layout

ROOT = Path(fsqueue.__file__).parent.parent
DOCS = ROOT / "docs"


def text_of(path):
    return (ROOT / path).read_text("utf-8")


def test_the_readme_lists_each_page():
    linked = set(re.findall(r"\]\(docs/([a-z_-]+\.md)", text_of("README.md")))
    assert linked == {path.name for path in DOCS.glob("*.md")}


def test_the_readme_and_the_site_group_the_pages_alike():
    """The site lists every page, as it is built with --strict."""
    nav = text_of("mkdocs.yml").partition("\nnav:\n")[2]
    site = {
        title: set(re.findall(r"(\S+\.md)$", pages, re.MULTILINE))
        for title, pages in re.findall(r"^  - (.+):\n((?:    .*\n)+)", nav, re.MULTILINE)
    }
    listed = re.findall(r"^- \*\*(.+):\*\* (.*)$", text_of("README.md"), re.MULTILINE)
    assert [title for title, _ in listed] == list(site)
    for title, links in listed:
        pages = set(re.findall(r"\]\(docs/(\S+\.md)\)", links))
        assert pages <= site[title], title


def test_the_design_lists_each_of_its_pages():
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", text_of("docs/design/README.md")))
    assert linked == {path.name for path in (DOCS / "design").glob("*.md")} - {"README.md"}


def test_modules_named_in_the_docs_exist():
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(r"`((?:[\w.]+/)+[\w.]+\.py)\b", page.read_text("utf-8")):
            assert (ROOT / name).exists() or (ROOT / "fsqueue" / name).exists(), (page.name, name)


def test_packages_named_in_the_design_exist():
    package = ROOT / "fsqueue"
    tops = "|".join(path.name for path in package.iterdir() if path.is_dir())
    for page in [*(DOCS / "design").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for name in re.findall(rf"`((?:{tops})(?:/[a-z_]+)+)/?`", page.read_text("utf-8")):
            found = package / name
            assert found.is_dir() or found.with_suffix(".py").exists(), (page.name, name)


def test_errors_named_in_the_docs_exist():
    known = {
        *vars(builtins),
        *vars(fsqueue.errors),
        "TerminatedWorkerError",
    }  # the last is joblib's
    for page in [*DOCS.rglob("*.md"), ROOT / "README.md"]:
        named = set(re.findall(r"`(?:fsqueue\.)?([A-Z]\w+Error)`", page.read_text("utf-8")))
        assert named <= known, page.name


def test_each_promise_is_in_the_readme_and_in_the_concepts():
    stated = re.findall(r"^- \*\*(P\d+)\. ", text_of("docs/concepts.md"), re.MULTILINE)
    assert stated == [f"P{number}" for number in range(1, len(stated) + 1)]
    assert re.findall(r"^\| (P\d+) \|", text_of("README.md"), re.MULTILINE) == stated
    for page in DOCS.rglob("*.md"):
        assert set(re.findall(r"\bP\d+\b", page.read_text("utf-8"))) <= set(stated), page.name


def test_each_command_is_in_the_cheat_sheet():
    sheet = text_of("docs/operating.md").partition("## Cheat sheet")[2].partition("\n## ")[0]
    named = set(re.findall(r"\bfsqueue ([a-z]+)", sheet))
    # A worker is what all pages are about, and a version needs no help.
    names = {name for names in SECTIONS.values() for name in names} - {"worker", "version"}
    assert names <= named


def test_each_folder_of_the_spool_is_in_the_concepts(tmp_path):
    rows = re.findall(r"^\| (`.+?) \|", text_of("docs/concepts.md"), re.MULTILINE)
    named = {each for row in rows for each in re.findall(r"`([a-z]+)/", row)}
    folders = {Path(folder).name for folder in Layout(str(tmp_path)).folders}
    assert folders <= named


def test_each_place_of_files_is_in_the_table_of_metrics():
    source = (ROOT / "fsqueue" / "cli" / "inspect" / "metric_families.py").read_text("utf-8")
    places = re.findall(r'"([a-z]+)": counts\.', source)
    assert len(places) >= 5
    (row,) = [line for line in text_of("docs/operating.md").splitlines() if "fsqueue_files" in line]
    assert all(place in row for place in places)


@pytest.mark.parametrize("package", ["firing", "doctor", "triggers"])
def test_a_package_that_lists_its_modules_lists_all(package):
    folder = ROOT / "fsqueue" / package
    head = (folder / "__init__.py").read_text("utf-8")
    listed = set(re.findall(r"^    ([a-z_]+)  +\S", head, re.MULTILINE))
    if listed:
        assert listed == {path.stem for path in folder.glob("*.py")} - {"__init__"}


def test_the_conda_recipe_needs_what_the_wheel_needs():
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    recipe = text_of("packaging/recipe.yaml")
    assert f'version: "{project["version"]}"' in recipe
    run = recipe.partition("  run:\n")[2].partition("\n\n")[0]
    needed = {line.strip("- ").replace(" ", "") for line in run.splitlines()}
    assert needed == {f"python{project['requires-python']}", *project["dependencies"]}
