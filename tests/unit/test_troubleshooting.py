"""docs/troubleshooting.md lists texts that the source has, and all classes of errors."""

import ast
import re
from pathlib import Path

import pytest

import fsqueue
from fsqueue import errors

PACKAGE = Path(fsqueue.__file__).parent
PAGE = PACKAGE.parent / "docs" / "troubleshooting.md"
_HOLE = "\0"


def texts_in(node):
    """The texts of a module; where values are put in there is a hole, also for ``%s``."""
    for each in ast.walk(node):
        if isinstance(each, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else _HOLE for part in each.values
            )
        elif isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield re.sub(r"%[.\d]*[sdrgf]", _HOLE, each.value)


@pytest.fixture(scope="module")
def texts():
    modules = [ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")]
    assert len(modules) > 100, "the package is not where this test looks for it"
    return {text for module in modules for text in texts_in(module)}


def listed():
    """The texts in the first column of a table, or the second where that has the class."""
    rows = re.findall(r"^\| `(.+?)` \|(?: `(.+?)` \|)?", PAGE.read_text("utf-8"), re.MULTILINE)
    return [second or first for first, second in rows]


def pattern_of(text):
    """Matches a text of the source as the page shows it: values as ``...``, and cut anywhere."""
    pieces = [re.escape(piece) for piece in text.split("...")]
    return re.compile(f".*{_HOLE}.*".join(pieces), re.DOTALL)


@pytest.mark.parametrize("text", listed())
def test_a_listed_text_is_one_of_the_source(texts, text):
    # A value at the beginning or the end may come from elsewhere.
    inner = text.removeprefix("... ").removesuffix(" ...").removesuffix(" ...")
    pattern = pattern_of(inner)
    assert any(map(pattern.search, texts)), text


def test_there_are_many():
    assert len(listed()) > 40


def test_each_class_of_errors_is_listed():
    page = PAGE.read_text("utf-8")
    for name, each in vars(errors).items():
        if isinstance(each, type) and each.__module__ == errors.__name__:
            assert f"| `{name}` |" in page, name
