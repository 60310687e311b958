"""Draws docs/monitor.png: the first page of `fsqueue monitor`, in Chromium.

`docs/screenshots.py` calls it while its workers run. The folder and the hosts get other names.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from playwright.sync_api import sync_playwright

from fsqueue.codec import traceback_text
from fsqueue.monitor.access import Tokens
from fsqueue.monitor.looks import Watch
from fsqueue.monitor.server import Settings, application
from fsqueue.monitor.sockets import listen_on_port
from fsqueue.spool.store.open_spool import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping

CHROMIUM = "/usr/bin/chromium"
PICTURE = Path(__file__).resolve().parent / "monitor.png"
# Replaces texts in all nodes of the page.
RENAME = """(names) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    for (const [old, name] of Object.entries(names))
      walker.currentNode.data = walker.currentNode.data.replaceAll(old, name);
}"""


def draw_page(root: str, names: Mapping[str, str]) -> None:
    """Write the picture.

    Args:
        root: the spool.
        names: what to call its folder and its workers.
    """
    store = open_store(root, look=True)
    store.files.sync_clock()
    watch = Watch(store, heartbeat=0.5, result_ttl=1e6)
    tokens = Tokens.fresh(actions=False)
    config = uvicorn.Config(application(Settings(watch, traceback_text, tokens)), lifespan="off")
    server = uvicorn.Server(config)
    with listen_on_port(0) as listener, sync_playwright() as playwright:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        size = {"width": 1180, "height": 900}
        page = browser.new_page(viewport=size, device_scale_factor=1.5, java_script_enabled=True)
        page.goto(f"http://127.0.0.1:{port}/?window=15m&token={tokens.see}")
        page.wait_for_selector("html.is-live")
        page.evaluate(RENAME, dict(names))
        page.screenshot(path=PICTURE, full_page=True)
        browser.close()
        server.should_exit = True
        thread.join()
