"""The tables of settings in the documentation, from the code. Run this file to write them."""

from pathlib import Path

from msgspec import NODEFAULT

from fsqueue.calls.options import CallSettings
from fsqueue.common.fields import describe
from fsqueue.config import fields
from fsqueue.launch.profiles import profile_fields


def shown(value):
    if value in (None, (), "", NODEFAULT):
        return "unset"
    if isinstance(value, tuple):
        return f"`{list(value)}`".replace("'", '"')
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table():
    return table_of(fields())


def table_of_options():
    return table_of(describe(CallSettings))


def table_of_profiles():
    return table_of(profile_fields())


def table_of(described):
    lines = ["| setting | expected | unit | default | what it is |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {field.type} | {field.unit} | {shown(field.default)} | {field.description} |"
        for name, field in described.items()
    ]
    return "\n".join(lines)


def write(page, table):
    """Put a table in the place of the one that a page has."""
    path = Path(__file__).parent.parent / "docs" / page
    before, head, after = path.read_text("utf-8").partition(table.partition("\n")[0] + "\n")
    assert head, page
    path.write_text(before + table + "\n\n" + after.partition("\n\n")[2], "utf-8")


if __name__ == "__main__":
    write("configuration.md", table())
    write("tasks.md", table_of_options())
    write("batch/README.md", table_of_profiles())
