"""The routes, and what guards them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mobileprune.errors import MobilepruneError
from mobileprune.serve import HOST, pages
from mobileprune.serve.library import Item, look_through

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
LONGEST_QUERY = 200
ONE: dict[str, tuple[str, Callable[[Item], str]]] = {
    "artifact": ("artifact", pages.artifact),
    "report": ("artifact", pages.report),
    "card": ("artifact", pages.privacy_card),
    "sweep": ("sweep", pages.sweep),
}
"""First part of the address -> the kind of item that the second part names, and its page."""


class Guarded:
    """Every answer with HEADERS, those to refused requests too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), text.encode()) for name, text in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class Server(uvicorn.Server):
    """Tells when it listens and takes Ctrl-C as its end."""

    def __init__(self, app: ASGIApp, ready: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, server_header=False))
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()


def run(folders: Sequence[Path], listener: socket.socket, ready: Callable[[], None]) -> None:
    """Until interrupted, at a socket that is bound already."""
    Server(application(folders), ready).run(sockets=[listener])


def application(folders: Sequence[Path]) -> Starlette:
    """``folders`` are looked through anew for every request: what is new appears, what is gone is not found."""

    def overview(request: Request) -> Response:
        asked = request.query_params
        found = look_through(folders)
        return HTMLResponse(pages.overview(found, asked.get("q", "")[:LONGEST_QUERY], "follow" in asked, time.time()))

    def one(page: str) -> Callable[[Request], Response]:
        kind, show = ONE[page]

        def answer(request: Request) -> Response:
            return _page(lambda: show(_item(folders, request.path_params["key"], kind)))

        return answer

    def compare(request: Request) -> Response:
        asked = request.query_params
        return _page(lambda: pages.compare(*(_item(folders, asked.get(side, ""), "artifact") for side in "ab")))

    routes = [Route(f"/{page}/{{key}}", one(page), methods=["GET"]) for page in ONE]
    routes += [Route("/", overview, methods=["GET"]), Route("/compare", compare, methods=["GET"])]
    guards = [
        Middleware(Guarded),
        Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
    ]
    return Starlette(routes=routes, middleware=guards, exception_handlers={HTTPException: _refused})


def _item(folders: Sequence[Path], key: str, kind: str) -> Item:
    item = look_through(folders).get(key)
    if item is None or item.kind != kind:
        raise HTTPException(404, f"there is no such {kind} in the folders (any more)")
    return item


def _page(show: Callable[[], str]) -> Response:
    try:
        return HTMLResponse(show())
    except MobilepruneError as error:
        return HTMLResponse(pages.failure(str(error)), status_code=422)


async def _refused(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return HTMLResponse(pages.failure(detail), status_code=status)
