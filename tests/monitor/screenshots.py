"""Pictures of pages of a prepared spool at a fixed time, in Chromium.

``python tests/monitor/screenshots.py`` draws the golden ones, in tests/data/screenshots. Pictures
depend on the version of Chromium and on the fonts, which ``drawn-with.txt`` there names.
"""

from __future__ import annotations

import base64
import contextlib
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

if __name__ == "__main__":
    sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from large_spool import make_large
from monitor_harness import SEE, TOKENS, TRIGGERS

from fsqueue.codec import traceback_text
from fsqueue.monitor.looks import Watch
from fsqueue.monitor.server import Settings, application
from fsqueue.monitor.sockets import listen_on_port
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.looking import LookingFilesystem
from fsqueue.spool.store.open_spool import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

FOLDER = Path(__file__).parents[1] / "data" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--font-render-hinting=none", "--disable-lcd-text"]
NOW = 1_900_000_000.0
"""In the year 2030: a server's clock that is ahead of this host's."""
PAGES = {
    "overview": "/",
    "workers": "/workers",
    "triggers": "/triggers",
}
KINDS = [(scheme, width) for scheme in ("light", "dark") for width in (820, 1440)]
# What differs from run to run: the folder, and what a look has cost.
_MASKED = (".path", ".live")


class _Still:
    """The time does not go on, and the disk is half full."""

    def monotonic(self) -> float:
        return 0.0

    def modified(self, _path: str) -> float:
        return NOW

    def space(self, _path: str) -> tuple[int, int]:
        return 1 << 40, 1 << 39


class StillFilesystem(_Still, Filesystem):
    """To prepare a spool with."""


class StillLook(_Still, LookingFilesystem):
    """To look at it with."""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The address of the prepared spool's page."""
    with tempfile.TemporaryDirectory() as root:
        store = open_store(root, StillFilesystem())
        store.files.sync_clock()
        make_large(store, ahead=0.0)
        look = open_store(root, StillLook(remote=True), look=True)
        look.files.sync_clock()
        watch = Watch(look, heartbeat=2.0, result_ttl=1e6, pause=0.0)
        for _ in range(60):  # the journal is read over several looks
            watch.look()
        watch.pause = 1e6
        settings = Settings(watch, traceback_text, TOKENS, triggers=lambda: TRIGGERS[:1])
        config = uvicorn.Config(application(settings), lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        with listen_on_port(0) as listener:
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()


def pictures(browser: Browser) -> Iterator[tuple[str, bytes]]:
    """Each page in each kind, by name."""
    with served() as base:
        for scheme, width in KINDS:
            context = browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme=scheme,
                reduced_motion="reduce",
                java_script_enabled=False,
                extra_http_headers={"Authorization": f"Bearer {SEE}"},
            )
            context.add_cookies([{"name": "fsqueue-zone", "value": "UTC", "url": base}])
            page = context.new_page()
            for name, path in PAGES.items():
                page.goto(f"{base}{path}", wait_until="load")
                masked = [page.locator(each) for each in _MASKED]
                yield (
                    f"{name}-{scheme}-{width}",
                    page.screenshot(mask=masked, animations="disabled"),
                )
            context.close()


# The share of the pixels of two pictures that differ visibly; 1 if their sizes do.
_COMPARE = """async ([one, two]) => {
  const data = async (text) => {
    const image = new Image();
    image.src = `data:image/png;base64,${text}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const drawing = canvas.getContext('2d');
    drawing.drawImage(image, 0, 0);
    return drawing.getImageData(0, 0, image.width, image.height);
  };
  const [a, b] = [await data(one), await data(two)];
  if (a.width !== b.width || a.height !== b.height) return 1;
  let different = 0;
  for (let at = 0; at < a.data.length; at += 4) {
    const apart = [0, 1, 2].map((part) => Math.abs(a.data[at + part] - b.data[at + part]));
    different += Math.max(...apart) > 16;
  }
  return different / (a.width * a.height);
}"""


def difference(browser: Browser, one: bytes, two: bytes) -> float:
    """The share of the pixels in which two pictures differ."""
    page = browser.new_page()
    texts = [base64.b64encode(each).decode() for each in (one, two)]
    found: float = page.evaluate(_COMPARE, texts)
    page.close()
    return found


def drawn_with(browser: Browser) -> str:
    """What pictures depend on: Chromium's version, and how wide it draws texts in both fonts."""
    page = browser.new_page()
    widths = page.evaluate("""() => ['sans-serif', 'monospace'].map((font) => {
      const drawing = new OffscreenCanvas(9, 9).getContext('2d');
      drawing.font = `130px Inter, system-ui, ${font}`;
      return drawing.measureText('Calls 86,112 fsqueue').width;
    })""")
    page.close()
    return f"Chromium {browser.version}, texts {widths}\n"


def main() -> None:
    """Draw the golden pictures."""
    from playwright.sync_api import sync_playwright

    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        (FOLDER / "drawn-with.txt").write_text(drawn_with(browser))
        for name, picture in pictures(browser):
            (FOLDER / f"{name}.png").write_bytes(picture)
        browser.close()


if __name__ == "__main__":
    main()
