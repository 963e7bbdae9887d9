"""The world that the ad platforms report on: one seed, and everything else follows.

Belongs here: which accounts, campaigns and ads exist, how they are set up at a moment, and what a day brought, each a
pure function of (seed, account, date) and the injected clock. Does not belong here: HTTP, or any platform's own way of
writing things down. Two processes with the same seed and clock hold the same world.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import blake2b

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.ad_platforms import accounts as names
from adinsights_orchestration.local.ad_platforms.accounts import (
    LOCAL_TENANTS,
    Account,
    Ad,
    AdTenant,
    Campaign,
    Group,
    Status,
    WorldSize,
)
from adinsights_orchestration.local.ad_platforms.metrics import (
    UNITS_PER_USD,
    Metrics,
    final_day,
    known,
    maturity,
    seasonality,
    split,
    traits,
)
from adinsights_orchestration.local.ad_platforms.places import MARKETS
from adinsights_orchestration.local.ad_platforms.seeded import between, identifier, unit, units
from adinsights_orchestration.tenants.model import Provider

DEFAULT_SEED = 20260115
FIRST_DAY = date(2024, 1, 1)  # no account is older
_ID_DIGITS = {
    Provider.META: 16,
    Provider.GOOGLE_ADS: 10,
    Provider.LINKEDIN_ADS: 9,
    Provider.TIKTOK_ADS: 19,
    Provider.GA4: 9,
}
_TOKEN_PREFIXES = {Provider.META: "EAAG", Provider.LINKEDIN_ADS: "AQV", Provider.TIKTOK_ADS: ""}
_GOOGLE_TOKEN_PREFIX = "ya29."  # noqa: S105  (the shape of Google's tokens, not one of them)
_PLACES_PER_CAMPAIGN = 5
_CHANGE_SHARE = 0.15  # of days on which a person changes a given budget
_PAUSE_SHARE = 0.12  # of those changes that pause it instead
_BUDGET_STEPS = (0.7, 0.8, 1.0, 1.2, 1.5)
_LONGEST_QUIET = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Region:
    """A place as one campaign's platform spells it."""

    spelling: str
    country: str
    weight: float


@dataclass(frozen=True, slots=True)
class RegionDay:
    """What one ad did in one region on one day, as far as the platform knows."""

    ad: Ad
    day: date
    region: Region
    metrics: Metrics


class World:
    """Everything that the ad platforms know.

    Args:
        seed: Chooses the world; the same seed is the same world in every process.
        tenants: Who has accounts.
        size: How much there is.
        clock: What time it is; the end of the data and the maturity of the last days follow from it.
    """

    def __init__(
        self,
        seed: int = DEFAULT_SEED,
        tenants: tuple[AdTenant, ...] = LOCAL_TENANTS,
        size: WorldSize | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.seed = seed
        self.tenants = tenants
        self.size = size or WorldSize()
        self.clock = clock
        self._accounts = {(a.provider, a.id): a for t in tenants for p in t.providers for a in self.accounts(t, p)}
        self._final = lru_cache(maxsize=50_000)(self._final_region_days)
        self._ads = lru_cache(maxsize=256)(self._ads_of)

    def tenant(self, slug: str) -> AdTenant:
        """Returns the tenant with this slug; `KeyError` when the world has none."""
        found = next((t for t in self.tenants if t.slug == slug), None)
        if found is None:
            raise KeyError(f"no ad accounts for tenant {slug!r}; there are: {', '.join(t.slug for t in self.tenants)}")
        return found

    def accounts(self, tenant: AdTenant, provider: Provider) -> tuple[Account, ...]:
        """Returns the tenant's accounts on a platform; none if it is not there."""
        if provider not in tenant.providers:
            return ()
        return tuple(
            Account(tenant, provider, self._account_id(tenant, provider, n)) for n in range(self.size.accounts)
        )

    def account(self, provider: Provider, account_id: str) -> Account | None:
        """Returns the account with this id, whosever it is."""
        return self._accounts.get((provider, account_id))

    def access_token(self, tenant: AdTenant, provider: Provider) -> str:
        """Returns the token with which the tenant's connector signs in."""
        digest = blake2b(f"{self.seed}/{tenant.slug}/{provider}".encode(), digest_size=24).hexdigest()
        return _TOKEN_PREFIXES.get(provider, _GOOGLE_TOKEN_PREFIX) + digest

    def today(self, account: Account) -> date:
        """Returns the current day where the account is."""
        return self.clock().astimezone(account.zone).date()

    def days(self, account: Account, since: date, until: date) -> Iterator[date]:
        """Yields the days of the range for which there is data, oldest first; never one to come."""
        day, last = max(since, FIRST_DAY), min(until, self.today(account))
        while day <= last:
            yield day
            day += timedelta(days=1)

    def ads(self, account: Account) -> tuple[Ad, ...]:
        """Returns all ads of the account; they name their groups and campaigns."""
        return self._ads(account)

    def groups(self, account: Account) -> tuple[Group, ...]:
        """Returns all ad groups of the account."""
        return tuple(dict.fromkeys(ad.group for ad in self.ads(account)))

    def campaigns(self, account: Account) -> tuple[Campaign, ...]:
        """Returns all campaigns of the account."""
        return tuple(dict.fromkeys(ad.campaign for ad in self.ads(account)))

    def status(self, part: Campaign | Group, now: datetime) -> Status:
        """Returns how a campaign or group is set up at `now`: as the last change before it left it."""
        campaign = part if isinstance(part, Campaign) else part.campaign
        zone, base = campaign.account.zone, self._usual_budget(part)
        day, oldest = now.astimezone(zone).date(), now.astimezone(zone).date() - _LONGEST_QUIET
        while day > oldest:
            changes, hour, step, pause = units(4, self.seed, "change", part.id, day)
            at = datetime.combine(day, time(int(8 + hour * 10), int(step * 60)), zone)
            if changes < _CHANGE_SHARE and campaign.starts <= at <= now:
                factor = _BUDGET_STEPS[int(step * len(_BUDGET_STEPS))]
                return Status(pause >= _PAUSE_SHARE, round(base * factor), at.astimezone(UTC))
            day -= timedelta(days=1)
        return Status(True, base, campaign.starts)

    def regions(self, campaign: Campaign) -> tuple[Region, ...]:
        """Returns the regions that a campaign reaches, each in the one spelling that it is reported under."""
        places = MARKETS[campaign.account.tenant.market]
        key = (self.seed, "regions", campaign.id)
        ranked = sorted(places, key=lambda p: unit(*key, p.name, p.country) ** (1 / p.weight), reverse=True)
        return tuple(
            Region(p.spellings[int(unit(*key, "spelling", p.name) * len(p.spellings))], p.country, p.weight)
            for p in ranked[:_PLACES_PER_CAMPAIGN]
        )

    def region_days(self, ad: Ad, day: date, now: datetime) -> list[RegionDay]:
        """Returns what is known at `now` of an ad's day, by region; regions sum to the ad's day."""
        so_far = maturity(day, now, ad.campaign.account.zone)
        return [
            RegionDay(ad, day, region, known(final, so_far, phase)) for region, final, phase in self._final(ad, day)
        ]

    def ad_day(self, ad: Ad, day: date, now: datetime) -> Metrics:
        """Returns what is known at `now` of an ad's day."""
        return sum((part.metrics for part in self.region_days(ad, day, now)), Metrics())

    def _final_region_days(self, ad: Ad, day: date) -> tuple[tuple[Region, Metrics, float], ...]:
        account = ad.campaign.account
        season = seasonality(account.provider, day)
        total = final_day(traits(self.seed, ad.id), account.tenant.currency, season, self.seed, ad.id, day)
        regions = self.regions(ad.campaign)
        phases = units(len(regions), self.seed, "phase", ad.id, day)
        return tuple(zip(regions, split(total, tuple(r.weight for r in regions)), phases, strict=True))

    def _usual_budget(self, part: Campaign | Group) -> int:
        account = part.account if isinstance(part, Campaign) else part.campaign.account
        mine = [ad for ad in self.ads(account) if part in (ad.group, ad.campaign)]
        usd = sum(traits(self.seed, ad.id).usd_per_day for ad in mine)
        return round(usd * 1.15 * UNITS_PER_USD[account.tenant.currency]) * 100

    def _account_id(self, tenant: AdTenant, provider: Provider, n: int) -> str:
        if provider is Provider.SEARCH_CONSOLE:
            return f"https://{'www' if n == 0 else f'shop{n}'}.{tenant.site}/"
        return identifier(_ID_DIGITS[provider], n, self.seed, tenant.slug, provider)

    def _ads_of(self, account: Account) -> tuple[Ad, ...]:
        campaigns = [self._campaign(account, n) for n in range(self.size.campaigns)]
        groups = [self._group(c, i, n) for i, c in enumerate(campaigns) for n in range(self.size.groups)]
        return tuple(self._ad(g, i, n) for i, g in enumerate(groups) for n in range(self.size.ads))

    def _campaign(self, account: Account, n: int) -> Campaign:
        key = (self.seed, account.id, "campaign", n)
        objective, start, hour = units(3, *key)
        pool = names.CAMPAIGN_NAMES[account.tenant.market]
        series = "" if n < len(pool) else f" #{n // len(pool) + 1}"
        first = FIRST_DAY + timedelta(days=int(between(0, 300, start)))
        return Campaign(
            account,
            identifier(13, n, self.seed, account.id, "campaign"),
            pool[n % len(pool)] + series,
            names.OBJECTIVES[int(objective * len(names.OBJECTIVES))],
            datetime.combine(first, time(int(hour * 12)), account.zone).astimezone(UTC),
            date(2030, 12, 31) if n % 3 == 2 else None,
        )

    def _group(self, campaign: Campaign, parent: int, n: int) -> Group:
        index = parent * self.size.groups + n
        name = names.GROUP_NAMES[n % len(names.GROUP_NAMES)]
        return Group(campaign, identifier(14, index, self.seed, campaign.account.id, "group"), f"{name} · {n + 1}")

    def _ad(self, group: Group, parent: int, n: int) -> Ad:
        index = parent * self.size.ads + n
        title = names.AD_TITLES[index % len(names.AD_TITLES)]
        account = group.campaign.account
        return Ad(
            group,
            identifier(15, index, self.seed, account.id, "ad"),
            f"{title} / v{n + 1}",
            title,
            names.AD_BODIES[(index * 3 + n) % len(names.AD_BODIES)],
        )
