"""Which Airbyte connector serves which platform, by the connectors' own short names.

Belongs here: the one table. A public API's `sourceType` is the short name.
"""

from __future__ import annotations

from collections.abc import Mapping

from adinsights_orchestration.tenants.model import Provider

SOURCE_KINDS: Mapping[Provider, str] = {
    Provider.META: "facebook-marketing",
    Provider.GOOGLE_ADS: "google-ads",
    Provider.LINKEDIN_ADS: "linkedin-ads",
    Provider.TIKTOK_ADS: "tiktok-marketing",
    Provider.GA4: "google-analytics-data-api",
    Provider.SEARCH_CONSOLE: "google-search-console",
}
PROVIDERS: Mapping[str, Provider] = {kind: provider for provider, kind in SOURCE_KINDS.items()}
