"""Which requests are let in: by whom they may be sent, what they call this machine, how long they are.

A page of a stranger's, open in a browser of this machine, can send requests to it. It can neither hide its
own origin nor, once its name leads here (DNS rebinding), what it calls us; so both are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from hornet_train.serving.service_metrics import ServiceMetrics

_DRAINED = 4  # times the longest body: what is read and forgotten, so that who sends it sees the refusal
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestRules:
    """Between the server and the application: refuses, counts, and sets the headers that protect the page."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        body: int,
        seconds: float,
        paths: Collection[str],
        metrics: ServiceMetrics,
    ) -> None:
        """Args:
        hosts: see `Service.hosts`.
        body: bytes that a request may have.
        seconds: in which a body that is refused is read to its end.
        paths: of the service, all others are counted as one.
        """
        self._app, self._hosts, self._body, self._seconds = app, hosts, body, seconds
        self._paths, self._metrics = paths, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
                self._metrics.request(path, message["status"])
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, answer)
            return
        status, reason = refused
        await self._forget_body(Headers(scope=scope), receive)
        await refusal(status, reason, close=True)(scope, receive, answer)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is not let in, and HTTP's number for that."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            return 421, "this machine is not called so: --allow-host lets in requests with other names"
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != hosts[0].lower()
        if scope["method"] not in ("GET", "HEAD") and (
            foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        ):
            return 403, "pages of others may not send pictures here"
        if scope["method"] in ("GET", "HEAD"):
            return None
        length = headers.get("content-length")
        if length is None or "transfer-encoding" in headers:
            return 411, "the length of the body is missing (Content-Length): send it whole, not in chunks"
        if int(length) > self._body:
            return 413, f"the body has {int(length):,} bytes, more than the {self._body:,} that are taken"
        return None

    async def _forget_body(self, headers: Headers, receive: Receive) -> None:
        """Read what is sent nevertheless: many clients look for an answer only when they have sent all."""
        length = headers.get("content-length")
        if headers.get("expect") or (length is not None and int(length) > _DRAINED * self._body):
            return
        read = 0
        try:
            async with asyncio.timeout(self._seconds):
                while read <= _DRAINED * self._body:
                    message = await receive()
                    read += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def refusal(status: int, reason: str, *, close: bool = False, retry: int | None = None) -> JSONResponse:
    """A refusal as programs read it.

    Args:
        status: HTTP's.
        close: whether the connection ends with it.
        retry: seconds after which to ask again.
    """
    headers = {"Connection": "close"} if close else {}
    if retry is not None:
        headers["Retry-After"] = str(retry)
    return JSONResponse({"error": reason}, status, headers)


def _name(host: str) -> str:
    """The name in a Host, in lower case, without port and brackets; empty where it has none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
