"""The frontend and Superset, as far as an operator's tools meet them: a page, and a health endpoint.

Belongs here: both small applications with their fault knobs. Does not belong here: any dashboard.
"""

from __future__ import annotations

import html

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.knobs import Knob, Knobs
from adinsights_orchestration.local.web_faults import WEB_KNOBS, FaultyWeb

FRONTEND_AREA, SUPERSET_AREA = "frontend", "superset"
FRONTEND_KNOBS = (*WEB_KNOBS, Knob("wrong_page", False, "The page is an empty build: it answers 200 and is not ours."))


def create_frontend_app(knobs: Knobs) -> Starlette:
    """Builds the frontend: one page, whatever the path, as a single-page application is served."""
    area = knobs.declare(FRONTEND_AREA, FRONTEND_KNOBS)

    async def page(_: Request) -> Response:
        return HTMLResponse(_EMPTY_BUILD if area.get("wrong_page") else _PAGE)

    return Starlette(routes=[Route("/{path:path}", page)], middleware=[Middleware(FaultyWeb, knobs=area)])


def create_superset_app(knobs: Knobs) -> Starlette:
    """Builds Superset's health endpoint, and at each dashboard's address a page with its name."""
    area = knobs.declare(SUPERSET_AREA, WEB_KNOBS)

    async def health(_: Request) -> Response:
        return PlainTextResponse("OK")

    async def dashboard(request: Request) -> Response:
        name = html.escape(request.path_params["name"].replace("-", " ").replace("_", " ").capitalize())
        return HTMLResponse(_DASHBOARD.format(name=name))

    routes = [Route("/health", health), Route("/superset/dashboard/{name}/", dashboard)]
    return Starlette(routes=routes, middleware=[Middleware(FaultyWeb, knobs=area)])


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ADinsights</title></head>
<body><div id="root"></div></body></html>"""
_DASHBOARD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title></head>
<body><h1>{name}</h1><p>Superset of the local stack: the dashboard itself is in the real one.</p></body></html>"""
_EMPTY_BUILD = '<!doctype html><html lang="en"><head><title>Welcome to nginx!</title></head><body></body></html>'
