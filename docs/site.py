"""Hooks of mkdocs: pages that lie outside of docs/, and links to files that are not on the site."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    "README.md": "index.md",
    "examples/README.md": "examples.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages of the site that lie elsewhere in the repository, so that they are where people look."""
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_MARKDOWN = re.compile(r"```|\\\|")
_log = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from elsewhere."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Let links lead to pages of the site; those to other files of the repository become text.

    Two things are written for GitHub, and mkdocs would show them as they are: the mark of blocks
    that the tests do not run, and the escaped bar in a table's code.
    """
    uri = page.file.src_uri
    source = {site: path for path, site in OUTSIDE.items()}.get(uri, f"docs/{uri}")
    folder = posixpath.dirname(source)

    def link(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in target:
            return match[0]
        full = posixpath.normpath(posixpath.join(folder, path))
        on_site = OUTSIDE.get(full, full.removeprefix("docs/") if full.startswith("docs/") else "")
        if not on_site or files.get_file_from_path(on_site) is None:
            return text
        relative = posixpath.relpath(on_site, posixpath.dirname(uri) or ".")
        return f"{image}[{text}]({relative}{hash_}{anchor})"

    fences = [fence.replace(" not-run\n", "\n", 1) for fence in _FENCE.findall(markdown)]
    parts = [
        _CODE.sub(lambda code: code[0].replace(r"\|", "|"), _LINK.sub(link, part))
        for part in _FENCE.split(markdown)
    ]
    return "".join(part + fence for part, fence in zip(parts, [*fences, ""], strict=True))


def on_page_content(html: str, page: Page, **_: Any) -> None:
    """Warn of Markdown that mkdocs has not understood, which `--strict` takes for an error."""
    found = _MARKDOWN.search(html)
    if found:
        around = html[max(found.start() - 40, 0) : found.end() + 40]
        _log.warning("%s: %r is shown as it is: %r", page.file.src_uri, found[0], around)
