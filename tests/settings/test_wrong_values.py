"""A wrong value is refused where settings are read, by the name of its variable and without the value of a secret."""

from __future__ import annotations

import pytest

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import Settings, load_settings

PASSWORD = "canary-of-an-address"
DSN = "ADINSIGHTS_OPS_STORE__DSN"


@pytest.mark.parametrize("name", ["America/Kingston", "", " ", "../etc/passwd", "/etc/localtime", "Jamaica Time"])
def test_a_home_timezone_that_does_not_exist(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADINSIGHTS_HOME_TIMEZONE", name)
    if not name:
        assert load_settings().home_timezone == Settings().home_timezone, "empty is not set"
        return
    with pytest.raises(ConfigurationError, match="is not a timezone") as refused:
        load_settings()
    assert refused.value.place == "ADINSIGHTS_HOME_TIMEZONE"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://ops:{PASSWORD}@db:54x/ops",
        f"ops:{PASSWORD}@db/ops",
        f"mysql://ops:{PASSWORD}@db/ops",
        f"host=db password={PASSWORD}",
    ],
)
def test_an_ops_store_that_is_no_postgres_address(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DSN, address)
    with pytest.raises(ConfigurationError, match=r"postgresql://user:password@host:5432/name") as refused:
        load_settings()
    assert refused.value.place == DSN
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_what_a_postgres_address_may_begin_with(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{scheme}://ops:{PASSWORD}@db:5432/ops?sslmode=require"
    monkeypatch.setenv(DSN, address)
    assert load_settings().ops_store.dsn.get_secret_value() == address
