"""The table of docs/configuration.md, from the settings themselves."""

from fsqueue.config import fields


def shown(value):
    if value is None:
        return "unset"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def table():
    lines = ["| setting | expected | unit | default | what it is |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {field.type} | {field.unit} | {shown(field.default)} | {field.description} |"
        for name, field in fields().items()
    ]
    return "\n".join(lines)
