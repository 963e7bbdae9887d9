"""The ad platforms as one Starlette application, a route family per provider.

Belongs here: which platforms there are and where they hang. Does not belong here: a server, a port, or the knobs'
storage: the loopback service mounts this below `/ads` and hands in its knobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.routing import Mount

from adinsights_orchestration.local.ad_platforms import ga4, google_ads, linkedin_ads, meta, search_console, tiktok_ads
from adinsights_orchestration.local.ad_platforms.endpoint import Dialect, Endpoint, routes
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.tenants.model import Provider

_PLATFORMS: Mapping[Provider, tuple[Dialect, Sequence[Endpoint]]] = {
    Provider.META: (meta.DIALECT, meta.ENDPOINTS),
    Provider.GOOGLE_ADS: (google_ads.DIALECT, google_ads.ENDPOINTS),
    Provider.LINKEDIN_ADS: (linkedin_ads.DIALECT, linkedin_ads.ENDPOINTS),
    Provider.TIKTOK_ADS: (tiktok_ads.DIALECT, tiktok_ads.ENDPOINTS),
    Provider.GA4: (ga4.DIALECT, ga4.ENDPOINTS),
    Provider.SEARCH_CONSOLE: (search_console.DIALECT, search_console.ENDPOINTS),
}


def create_app(world: World, knobs: Knobs) -> Starlette:
    """Builds the platforms' application.

    Args:
        world: What the platforms report on.
        knobs: Where each platform declares its fault knobs, as area `ads.<provider>`.
    """
    return Starlette(
        routes=[
            Mount(f"/{provider.value}", routes=routes(world, knobs, dialect, endpoints))
            for provider, (dialect, endpoints) in _PLATFORMS.items()
        ]
    )
