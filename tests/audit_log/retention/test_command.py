"""`adinsights audit retention`, as somebody types it: what it tells is what is done, in lines that can be read."""

from __future__ import annotations

from collections.abc import Callable

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.tenants.model import ResourceHold
from tests.audit_log.conftest import Place
from tests.audit_log.living import register
from tests.audit_log.rows import FIRST, Row, moment
from tests.cli.conftest import Answer

Command = Callable[..., Answer]


def test_a_dry_run_counts_what_goes_after_being_archived_anew_and_apply_deletes_exactly_that(
    place: Place, audit_command: Command
) -> None:
    place.archive()
    register(place, now=utc_now(), legal_holds=(ResourceHold("user", "7"),))
    one = place.tenants[0]
    place.add([Row(one, moment(FIRST, 80_000)), Row(one, moment(FIRST, 80_001), "user", "7")])
    free = len([row for row in place.rows if row.tenant == one and row.day == FIRST]) - 1
    said = audit_command("retention")
    words = " ".join((said.out + said.err).split())
    assert f"{free} of these rows are of 1 tenants' days that differ from their archive" in words
    assert ("it stays" in words, said.code) == (False, 0)
    told = audit_command("retention", "--json").json
    assert told["anew"] == [{"tenant": str(one), "day": str(FIRST), "rows": free}]
    assert told["rows"] == len(place.rows) - 1
    done = audit_command("retention", "--apply", "--json").json
    assert (done["rows"], done["by_tenant_and_month"]) == (told["rows"], told["by_tenant_and_month"])
    assert (done["anew"], done["unequal"]) == ([], [])
