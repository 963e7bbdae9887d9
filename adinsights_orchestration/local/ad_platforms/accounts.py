"""What an ad account contains: tenants, accounts, campaigns, groups, ads.

Belongs here: the immutable values and their names. Does not belong here: how they performed (`metrics`) and how they
are derived from the seed (`world`). The three levels stand for every platform's own: an ad group is Meta's ad set and
LinkedIn's campaign, a campaign is LinkedIn's campaign group, an ad is LinkedIn's creative.
"""

# ruff: noqa: RUF001  (names are full of typography on purpose: real ones are)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from adinsights_orchestration.tenants.model import Provider


@dataclass(frozen=True, slots=True)
class AdTenant:
    """A customer as the ad platforms know it.

    Args:
        slug: The tenant's name in the registry.
        timezone: IANA name; the day boundaries of all its accounts.
        currency: ISO 4217 code of all its accounts.
        market: Key of `places.MARKETS`: where its audience lives.
        site: Domain of its web site.
        providers: Platforms on which it has accounts.
    """

    slug: str
    timezone: str
    currency: str
    market: str
    site: str
    providers: tuple[Provider, ...]


LOCAL_TENANTS = (
    AdTenant(
        "acme-jamaica",
        "America/Jamaica",
        "JMD",
        "jamaica",
        "acme-jamaica.example",
        (Provider.META, Provider.GOOGLE_ADS, Provider.GA4),
    ),
    AdTenant(
        "globex-london",
        "Europe/London",
        "GBP",
        "britain",
        "globex-media.example",
        (Provider.META, Provider.LINKEDIN_ADS, Provider.SEARCH_CONSOLE),
    ),
    AdTenant(
        "initech-ny",
        "America/New_York",
        "USD",
        "america",
        "initech.example",
        (Provider.GOOGLE_ADS, Provider.TIKTOK_ADS),
    ),
)


@dataclass(frozen=True, slots=True)
class WorldSize:
    """How much there is: counts per parent, and the days of history that a first sync reads."""

    accounts: int = 1
    campaigns: int = 4
    groups: int = 2
    ads: int = 2
    days: int = 30


@dataclass(frozen=True, slots=True)
class Account:
    """An ad account, GA4 property or Search Console site; `id` is the platform's own."""

    tenant: AdTenant
    provider: Provider
    id: str

    @property
    def zone(self) -> ZoneInfo:
        """The timezone in which the account's days begin and end."""
        return ZoneInfo(self.tenant.timezone)


@dataclass(frozen=True, slots=True)
class Campaign:
    """The upper level; `ends` is None for a campaign without an end."""

    account: Account
    id: str
    name: str
    objective: str
    starts: datetime
    ends: date | None


@dataclass(frozen=True, slots=True)
class Group:
    """The middle level: ad set, ad group, LinkedIn campaign."""

    campaign: Campaign
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Ad:
    """The lowest level: ad or creative; `title` and `body` are what people read."""

    group: Group
    id: str
    name: str
    title: str
    body: str

    @property
    def campaign(self) -> Campaign:
        """The ad's campaign."""
        return self.group.campaign


@dataclass(frozen=True, slots=True)
class Status:
    """How a campaign or group is set up at one moment.

    Args:
        active: Whether it is running.
        daily_budget: In minor units (cents) of the account's currency.
        changed_at: When a person last changed it, UTC.
    """

    active: bool
    daily_budget: int
    changed_at: datetime


CAMPAIGN_NAMES: Mapping[str, tuple[str, ...]] = {
    "jamaica": (
        "Blue Mountain Café ☕ – Always On",
        "Reggae Sumfest 🎶",
        "Back to School – Montego Bay",
        "Crème & Curaçao | Été",
        "Emancipation Day “Big Sale”",
        "Independence Grand Gala",
    ),
    "britain": (
        "Côte d’Azur Getaways – Été",
        "Autumn Sale £££",
        "Zürich ↔ London Business",
        "Brand / always on",
        "Gruyère & Crème Fraîche, Q4",
        "Łódź Launch",
    ),
    "america": (
        "Año Nuevo – Tech Deals",
        "Smarter Reports 📈",
        "Québec Launch",
        "日本 Expansion – Brand",
        "Black Friday 24h",
        "Retargeting: cart & checkout",
    ),
}
GROUP_NAMES = ("Prospecting 18–34", "Retargeting 30d", "Lookalike 2 %", "Intérêts: café & cuisine")
AD_TITLES = ("Taste the mountain", "Déjà vu? Nouveau!", "Only this week 🔥", "Ships tomorrow")
AD_BODIES = ("Order before noon.", "Zwei für eins – so lange der Vorrat reicht.", "Free returns.", "20 % off, no code.")
OBJECTIVES = ("OUTCOME_SALES", "OUTCOME_TRAFFIC", "OUTCOME_LEADS", "OUTCOME_AWARENESS")
