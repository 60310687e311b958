"""Decides who may see the pages and who may act.

Every user of a login node can connect to each of its loopback ports, and any web page that the
reader has open can send requests to them. So each request needs a token, and each start makes new
ones. A browser gets the token once, in a link, and then keeps it as a cookie that no script can
read and that it sends to no other site. Requests that change anything also need a second token, and
must come from our own page.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types fsqueue"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_OPEN = frozenset({"/healthz"})
_SAFE = frozenset({"GET", "HEAD"})
_MONTH = 30 * 86_400
_SHORTEST = 32
_IN_A_LINK = re.compile(r"[A-Za-z0-9._~-]+")


class Tokens(NamedTuple):
    """The secrets of one start."""

    see: str
    act: str = ""
    """Empty without --actions."""

    @classmethod
    def fresh(cls, *, actions: bool, see: str = "") -> Tokens:
        """New tokens, of 32 random bytes each."""
        return cls(
            see or secrets.token_urlsafe(32),
            secrets.token_urlsafe(32) if actions else "",
        )

    def rights(self, given: str) -> str:
        """The rights of a token: ``see``, ``act``, or none (empty)."""
        data = given.encode("utf-8", "replace")
        if self.act and hmac.compare_digest(data, self.act.encode()):
            return "act"
        return "see" if hmac.compare_digest(data, self.see.encode()) else ""

    @property
    def form(self) -> str:
        """The secret in forms and in the header of scripts; it cannot be used as a cookie."""
        return hashlib.blake2b(self.act.encode(), person=b"fsqueue form").hexdigest()[:64]


def kept_token(path: str) -> str:
    """The token in a file that only its owner can read; creates a missing file with a new token.

    Raises:
        ConfigError: others can read the file, or it has no token.
    """
    try:
        with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(f"--token-file: cannot make {path}: {error}") from error
    try:
        with open(path, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            token = file.read().strip()
    except (OSError, ValueError) as error:  # ValueError: it is not text
        raise ConfigError(f"--token-file: cannot read {path}: {error}") from error
    if status.st_mode & 0o077 or status.st_uid != os.getuid():
        raise ConfigError(f"--token-file: others can read {path}: chmod 600 {path}")
    if len(token) < _SHORTEST:
        raise ConfigError(f"--token-file: {path} has less than {_SHORTEST} characters")
    if not _IN_A_LINK.fullmatch(token):
        raise ConfigError(
            f"--token-file: the token in {path} may have only letters, digits and - . _ ~, as it "
            "is part of a link. Remove the file to get a new one"
        )
    return token


class SecurityHeaders:
    """Adds the headers to each response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)


class BasePath:
    """Serves below a path, whether the proxy in front takes it off or not."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = scope.get("path", "")
        if self._path and path.startswith(f"{self._path}/"):
            scope = {**scope, "path": path.removeprefix(self._path)}
        await self._app(scope, receive, send)


class Access:
    """Passes on the requests that have a token, and refuses the others.

    Args:
        app: the application that handles them.
        tokens: the secrets.
        spool: the spool's id, which keeps the cookies of several monitors on one host apart.
        hosts: further host names under which the page is reached.
        again: the command that prints the link again.
        path: the path in front of all pages; browsers send the cookie only below it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        spool: str,
        hosts: Sequence[str],
        again: str,
        path: str,
    ) -> None:
        self._path = path.rstrip("/") or "/"
        self._app, self._tokens, self._hosts, self._again = app, tokens, hosts, again
        self.cookie: str = f"fsqueue-{spool}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        response = self._checked(request, scope)
        await (response or self._app)(scope, receive, send)

    def _checked(self, request: Request, scope: Scope) -> Response | None:
        given = request.query_params.get("token")
        if given is not None and request.method in _SAFE:
            return self._exchange(request, given)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        # In this order: the cookie may be from an earlier start.
        rights = self._tokens.rights(bearer) or self._tokens.rights(
            request.cookies.get(self.cookie, "")
        )
        if not rights:
            return self._refused()
        if request.method not in _SAFE:
            problem = "this monitor is read-only" if rights != "act" else self._foreign(request)
            if problem:
                return PlainTextResponse(f"refused: {problem}\n", 403)
        scope.setdefault("state", {})["may_act"] = rights == "act"
        return None

    def _refused(self) -> Response:
        text = (
            "403: this page needs the link with a token that `fsqueue monitor` printed when it "
            f"started.\nIf it is lost, stop the monitor and start it again: {self._again}\n"
        )
        return PlainTextResponse(text, 403)

    def _exchange(self, request: Request, given: str) -> Response:
        """Turn the token of a link into a cookie, and take it out of the address."""
        if not self._tokens.rights(given):
            return self._refused()
        pairs = parse_qsl(request.url.query, keep_blank_values=True)
        query = urlencode([pair for pair in pairs if pair[0] != "token"])
        # Relative, so that it is right behind a proxy too.
        last = quote(request.scope["path"].rpartition("/")[2])
        response = RedirectResponse(f"./{last}" + (f"?{query}" if query else ""), 303)
        response.set_cookie(
            self.cookie, given, max_age=_MONTH, path=self._path, httponly=True, samesite="strict"
        )
        return response

    def _foreign(self, request: Request) -> str:
        """Why a request that changes something does not come from our page; empty if it does."""
        headers = request.headers
        site = headers.get("sec-fetch-site", "same-origin")
        origin = headers.get("origin")
        if site not in {"same-origin", "none"}:
            return "it comes from another site"
        # Browsers send "null" for forms of a page whose referrer policy is no-referrer, as ours is.
        if origin == "null":
            return "" if "sec-fetch-site" in headers else "it comes from an unknown site"
        if origin is not None and not self._is_ours(origin, headers):
            return "it comes from another site"
        return ""

    def _is_ours(self, origin: str, headers: Headers) -> bool:
        try:
            found = urlsplit(origin)
        except ValueError:
            return False
        return found.netloc == headers.get("host") or (found.hostname or "") in self._hosts


def form_is_ours(tokens: Tokens, headers: Headers, form: Mapping[str, Any]) -> bool:
    """Whether a request has the secret of our forms, in a field or a header."""
    given = headers.get("x-fsqueue-token") or str(form.get("form", ""))
    return bool(tokens.act) and hmac.compare_digest(
        given.encode("utf-8", "replace"), tokens.form.encode()
    )
