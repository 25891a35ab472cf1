"""Who may see the page: checked before anything else of a request is looked at.

- `Host` must be a name or an address of this server. Otherwise a web page elsewhere could have its own name resolve
  to this machine and read everything as its own (DNS rebinding).
- `Origin` and `Sec-Fetch-Site`, where a browser sends them, must be of the page itself: no other page may send
  commands, or embed or read anything of this one.
- Where there is a token, a viewer shows it once (the address with `?token=`, or the form) and gets a cookie that is
  told from it; programs send `Authorization: Bearer TOKEN`. It is compared in constant time and left in no address.
- Every answer has a Content-Security-Policy that allows this server's own files and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from http.cookies import CookieError, SimpleCookie
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from stream.page.options import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stream.page.options import PageOptions

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: a browser would then send the form that asks for the token with `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
"""On every answer."""

COOKIE_S: Final = 30 * 24 * 3600
MOST_BODY_BYTES: Final = 4096
OPEN_PATHS: Final = ("/assets/page.css", "/assets/icon.svg")
"""What the form that asks for the token needs; nothing of a run is in it."""


class Guard:
    """Lets requests through to `app` that may see the page, and answers the others."""

    def __init__(self, app: ASGIApp, options: PageOptions) -> None:
        self._app = app
        self._token = options.token
        # Cookies do not know ports: two pages on one machine have a name each.
        self._cookie = f"affect-page-{options.port}"
        self._only_loopback = options.is_loopback
        self._names = {options.host.lower(), "localhost"}
        if not self._only_loopback:
            name = socket.gethostname().lower()
            self._names |= {name, f"{name.partition('.')[0]}.local"}
        self._login = files(__package__).joinpath("assets", "login.html").read_text("utf-8")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets it through; every answer gets the headers."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            answer = self._refusal(Headers(scope=scope), scope["method"]) or await self._identify(
                Request(scope, receive)
            )
        except ClientDisconnect:
            return
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers, method: str) -> Response | None:
        """The answer to a request that no viewer's browser would send."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own_host(hosts[0]):
            return PlainTextResponse("Misdirected: this page has another address.\n", 421)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != hosts[0].lower():
            return PlainTextResponse("Refused: asked for by another site.\n", 403)
        follows_link = (
            headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
            and method == "GET"
        )
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not follows_link:
            return PlainTextResponse("Refused: asked for by another site.\n", 403)
        return None

    def _is_own_host(self, host: str) -> bool:
        """Whether a `Host` header names this server; its port may be another's, that of a tunnel."""
        try:
            parts = urlsplit(f"//{host}")
            name, _ = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if not name or parts.path or parts.query or parts.username is not None:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address cannot be made to mean another machine, as a name can.
        return is_loopback(name) or not self._only_loopback

    async def _identify(self, request: Request) -> Response | None:
        """None for those who have shown the token, or where there is none; otherwise the answer."""
        if self._token is None or request.url.path in OPEN_PATHS:
            return None
        is_known = self._is_known(request.headers)
        given = None
        if request.url.path == "/login" and request.method == "POST":
            given = await _token_in_form(request)
        elif request.url.path == "/" and request.method == "GET":
            given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            return self._welcome()
        is_form = request.url.path == "/login"
        if (is_known and (is_form or given is not None)) or (is_form and request.method == "GET"):
            # A form that is sent again or reloaded, an address with a token: neither stays in the address bar.
            return RedirectResponse("/", 303)
        if is_known:
            return None
        if (request.method == "GET" and request.url.path == "/") or given is not None:
            remark = "" if given is None else "That is not the token."
            return HTMLResponse(self._login.replace("{{remark}}", remark), 401)
        return PlainTextResponse("Refused: show the token.\n", 401, {"WWW-Authenticate": "Bearer"})

    def _welcome(self) -> Response:
        assert self._token is not None
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            self._cookie,
            _cookie_value(self._token),
            max_age=COOKIE_S,
            path="/",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _is_known(self, headers: Headers) -> bool:
        """Whether the cookie or the `Authorization` header is right."""
        assert self._token is not None
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(credentials.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(), _cookie_value(self._token).encode()
        )


def _cookie_value(token: str) -> str:
    """What a browser keeps: the token cannot be told from it, and it outlives a restart with the same token."""
    return hmac.new(token.encode(), b"affectstream page cookie", hashlib.sha256).hexdigest()


async def _token_in_form(request: Request) -> str:
    body = await read_body(request)
    return parse_qs((body or b"").decode("utf-8", "replace")).get("token", [""])[0]


async def read_body(request: Request, most_bytes: int = MOST_BODY_BYTES) -> bytes | None:
    """A request's body; None where it is longer than anything that the page sends."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            return None
    return body
