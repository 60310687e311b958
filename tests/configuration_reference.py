"""The table of docs/configuration.md, from the settings themselves."""

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
