"""The web server of a spool: routes, and streams of updates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import (
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from fsqueue.errors import EnvelopeError, FSQueueError
from fsqueue.monitor.access import (
    LOCAL_HOSTS,
    Access,
    BasePath,
    SecurityHeaders,
    Tokens,
    form_is_ours,
)
from fsqueue.monitor.actions import ACTIONS, Actions, ChangedError
from fsqueue.monitor.pages import routes
from fsqueue.monitor.pages.page import Ask, MissingError, Page, TriggerInfo
from fsqueue.monitor.rendering import FOLDER, Rendered, environment, render

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import FrameType

    from starlette.requests import Request

    from fsqueue.monitor.looks import Watch
    from fsqueue.spool.store.store import Store

_Answer = TypeVar("_Answer")

_COMMENT_EVERY = 15.0
# A page whose charts alone have changed is fetched again this often, in seconds.
_CHARTS_EVERY = 10.0
# Pages that read more than the shared look are rendered again this often, in seconds.
_READING_EVERY = 10.0
_MOST_PAGES = 200
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_LONGEST_FORM, _MOST_FIELDS = 1 << 16, 20


class Settings(NamedTuple):
    """The options of the command line.

    Attributes:
        watch: looks at the spool.
        traceback_text: turns a recorded exception into text, without unpickling it.
        tokens: the secrets.
        hosts: further host names under which the page is reached.
        base_path: the path in front of all pages, behind a proxy.
        again: the command that prints the links again.
        writable: opens the spool for actions; None if there are none.
        triggers: the triggers of the application; None without one.
    """

    watch: Watch
    traceback_text: Callable[[bytes | memoryview, str], str]
    tokens: Tokens
    hosts: Sequence[str] = ()
    base_path: str = ""
    again: str = "fsqueue monitor"
    writable: Callable[[], Store] | None = None
    triggers: Callable[[], Sequence[TriggerInfo]] | None = None


class Site:
    """Renders the pages of one spool, one at a time in one thread.

    That thread lives as long as the site, because threads do not share their freed memory well.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings: Settings = settings
        self.watch: Watch = settings.watch
        self._env = environment()
        self._thread = ThreadPoolExecutor(1, "fsqueue-pages")
        self.stopping: asyncio.Event = asyncio.Event()
        self._cache: dict[tuple[object, ...], tuple[int, float, Rendered]] = {}
        self._files = _static_files()

    def ask(self, request: Request, path: str | None = None, query: str | None = None) -> Ask:
        """The request as a page sees it; with a path or a query, a request for another page."""
        return Ask.of(
            request.scope["path"] if path is None else path,
            request.url.query if query is None else query,
            watch=self.watch,
            traceback_text=self.settings.traceback_text,
            zone=unquote(request.cookies.get("fsqueue-zone", "")),
            may_act=bool(getattr(request.state, "may_act", False)),
            triggers=self.settings.triggers,
        )

    async def page(self, ask: Ask) -> Page:
        """The facts of a page."""
        return await self._alone(partial(routes.page_of, ask))

    async def rendered(self, ask: Ask) -> Rendered:
        """A rendered page, shared by all tabs that show it until the next look."""
        return await self._alone(partial(self._render, ask))

    async def _alone(self, work: Callable[[], _Answer]) -> _Answer:
        """Run a function that reads the spool, while no other one does."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _render(self, ask: Ask) -> Rendered:
        key = (ask.path, ask.query, ask.zone, ask.may_act)
        found = self._cache.get(key)
        if found is not None:
            number, at, rendered = found
            if number == self.watch.number and self.watch.due_in:
                return rendered
            if routes.reads_more(ask) and time.monotonic() - at < self.watch.pause:
                return rendered
        page = routes.page_of(ask)
        facts = {**page.facts, **routes.layout(ask, page, self.settings.tokens)}
        rendered = render(self._env, page.template, facts)
        self._forget_pages()
        self._cache[key] = self.watch.number, time.monotonic(), rendered
        return rendered

    def _forget_pages(self) -> None:
        """Drop the pages of earlier looks, which nobody will request."""
        oldest = time.monotonic() - self.watch.pause
        for key, (number, at, _) in list(self._cache.items()):
            if len(self._cache) >= _MOST_PAGES or (number != self.watch.number and at < oldest):
                del self._cache[key]

    def warm_up(self) -> None:
        """Render the overview, so that the first reader does not wait for the templates."""
        ask = Ask.of(
            "/", "", watch=self.watch, traceback_text=self.settings.traceback_text, zone="",
            may_act=False,
        )  # fmt: skip
        self._thread.submit(self._render, ask)  # if it fails, the first reader gets the error

    # -- answers ----------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        """A page."""
        ask = self.ask(request)
        try:
            if ask.path == "/search" and (page := await self.page(ask)).redirect:
                return RedirectResponse(page.redirect, 303)
            return HTMLResponse((await self.rendered(ask)).html)
        except MissingError as error:
            return await self._message(ask, 404, str(error))
        except (OSError, EnvelopeError) as error:
            return await self._message(ask, 503, f"the shared directory fails: {error}")

    async def _message(self, ask: Ask, status: int, text: str) -> Response:
        facts = {"status": status, "text": text, "title": str(status)}
        facts |= routes.bare_layout(ask)
        return HTMLResponse(render(self._env, "message", facts).html, status)

    async def file(self, request: Request) -> Response:
        """The style sheet, the script, or the icon."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            return PlainTextResponse("there is no such file\n", 404)
        data, kind = found
        return Response(data, media_type=kind)

    async def document(self, request: Request) -> Response:
        """The facts of a page as JSON, with the same names as in the commands' --json."""
        path = request.scope["path"].removeprefix("/api/v1")
        path = "/" if path == "/overview" else path
        try:
            page = await self.page(self.ask(request, path))
        except MissingError as error:
            return Response(json.dumps({"error": str(error)}), 404, media_type="application/json")
        except (OSError, EnvelopeError) as error:
            return Response(json.dumps({"error": str(error)}), 503, media_type="application/json")
        return Response(_json(page.document), media_type="application/json")

    async def events(self, request: Request) -> Response:
        """A stream of what changes on a page."""
        path, _, query = request.query_params.get("page", "/").partition("?")
        ask = self.ask(request, unquote(path), query)
        have = request.headers.get("last-event-id") or request.query_params.get("have", "")
        return StreamingResponse(
            self._stream(request, ask, have),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _stream(self, request: Request, ask: Ask, have: str) -> AsyncIterator[str]:
        skeleton, _, drawn = have.partition("-")
        values: Mapping[str, str] = {}
        sent = drawn_at = time.monotonic()
        yield "retry: 2000\n\n"
        while not (self.stopping.is_set() or await request.is_disconnected()):
            try:
                new = await self.rendered(ask)
            except (MissingError, OSError, EnvelopeError) as error:
                yield _event("problem", {"text": str(error)})
                await self._rest(self.watch.pause)
                continue
            now = time.monotonic()
            identity = f"{new.digest}-{new.drawn}"
            redraw = new.drawn != drawn and now - drawn_at > _CHARTS_EVERY
            if new.digest != skeleton or redraw:
                yield _event("page", {}, identity)
                skeleton, drawn, drawn_at, sent = new.digest, new.drawn, now, now
            else:
                patch = {key: text for key, text in new.values.items() if values.get(key) != text}
                if patch:
                    yield _event("patch", patch, f"{skeleton}-{drawn}")
                    sent = now
                elif now - sent > _COMMENT_EVERY:
                    yield ": still here\n\n"
                    sent = now
            values = new.values
            pause = max(self.watch.due_in, 0.05)
            await self._rest(max(pause, _READING_EVERY) if routes.reads_more(ask) else pause)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    # -- actions ----------------------------------------------------------------------------

    async def act(self, request: Request) -> Response:
        """Do what a form asks for."""
        ask = self.ask(request)
        if self.settings.writable is None:
            return PlainTextResponse("refused: this monitor is read-only\n", 403)
        form = await _form(request)
        if not form_is_ours(self.settings.tokens, request.headers, form):
            return PlainTextResponse("refused: the form has no valid token\n", 403)
        name = request.path_params["action"]
        if name not in ACTIONS:
            return await self._message(ask, 404, f"there is no action {name}")
        actions = Actions(self.settings.writable, self.watch)
        try:
            done = await self._alone(partial(actions.take, name, form))
            self._cache.clear()
        except ChangedError as error:
            return await self._message(ask, 409, str(error))
        except (MissingError, FSQueueError, OSError) as error:
            return await self._message(ask, 400, str(error))
        return await self._message(ask, 200, done)


def _static_files() -> dict[str, tuple[bytes, str]]:
    """The content and type of each file, kept in memory so that the first page is quick."""
    every = Path(FOLDER, "static").iterdir()
    return {
        each.name: (each.read_bytes(), _TYPES[each.suffix])
        for each in every
        if each.suffix in _TYPES
    }


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none if the request body is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return {}
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


def _event(name: str, data: object, identity: str = "") -> str:
    line = f"id: {identity}\n" if identity else ""
    return f"{line}event: {name}\ndata: {json.dumps(data)}\n\n"


def _json(document: object) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        return json.dumps(msgspec.to_builtins(document)).encode("utf-8", "backslashreplace")


def application(settings: Settings, site: Site | None = None) -> Starlette:
    """The web application."""
    site = site or Site(settings)
    shown = [Route(path, site.show) for path in routes.PATHS]
    documents = [
        Route(f"/api/v1{'/overview' if path == '/' else path}", site.document)
        for path in routes.PATHS
    ]
    every = [
        Route("/healthz", lambda _: PlainTextResponse("ok\n")),
        Route("/events", site.events),
        Route("/actions/{action}", site.act, methods=["POST"]),
        Route("/static/{name}", site.file),
        *documents,
        *shown,
    ]
    hosts = [*LOCAL_HOSTS, *settings.hosts]
    return Starlette(
        routes=every,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
            Middleware(BasePath, path=settings.base_path),
            Middleware(
                Access,
                tokens=settings.tokens,
                spool=settings.watch.store.files.info.id,
                hosts=settings.hosts,
                path=settings.base_path,
                again=settings.again,
            ),
        ],
    )


class _Server(uvicorn.Server):
    """A server that ends its streams before it waits for open connections."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle Ctrl-C or SIGTERM."""
        self._site.stopping.set()
        super().handle_exit(sig, frame)


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    site = Site(settings)
    config = uvicorn.Config(
        application(settings, site),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        access_log=False,  # it would contain the tokens
        log_level="error",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    # Uvicorn shuts down on the signal, and then raises it again.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    site.warm_up()
    try:
        _Server(config, site).run([listener])
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, former)
