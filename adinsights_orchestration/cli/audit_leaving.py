"""`adinsights audit offboard` and `erase`: a tenant, or one person's rows, leave the archive; the plan first.

Belongs here: asking, and showing the answer. Does not belong here: planning and removing (`audit_log`). What is done is
always the plan that was shown, by its digest, or nothing.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_life import archive, say_swept
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.leaving.erasure import ErasurePlan
    from adinsights_orchestration.audit_log.leaving.offboarding import OffboardingPlan

TenantOption = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose archive: slug, name or id.")]
PlanOption = Annotated[
    str, typer.Option("--plan", metavar="DIGEST", help="The plan that you read: anything else is refused.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, for ever in the chain: a request's number, never a person's name.")
]
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to the group."""
    app.command()(offboard)
    app.command()(erase)


def offboard(
    tenant: TenantOption,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FOLDER", help="Hand all of it over in this folder first.")
    ] = None,
    younger: Annotated[bool, typer.Option("--younger", help="Also what is younger than a year.")] = False,
    reason: ReasonOption = "",
    yes: process.YesOption = False,
    plan: PlanOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Remove a tenant that has left from the archive, handed over first if asked. Plan first; does it with --yes."""
    from adinsights_orchestration.audit_log.leaving.offboarding import Offboarding
    from adinsights_orchestration.cli.selection import tenant_id
    from adinsights_orchestration.plan_digest import require

    work = Offboarding(archive(), tenant_id(process.settings(), tenant), reason, export, younger)
    found = work.apply(plan) if yes else work.plan()
    if not yes:
        require(found.digest, plan)
    words = ["offboard", "--tenant", tenant, *(["--export", str(export)] if export else [])]
    words += [*(["--younger"] if younger else []), *(["--reason", reason] if reason else [])]
    command = _command(words, found.digest) if not yes and not found.obstacles and found.removed else ""
    if as_json:
        process.print_json({"executed": yes, **_offboarding(found), "plan": found.digest, "command": command})
    else:
        _show_offboarding(found, done=yes)
        _finish(found.obstacles, found.digest, command)
    raise typer.Exit(EXIT_NOT_WELL if found.obstacles or found.swept.problem else 0)


def erase(
    tenant: TenantOption,
    user_id: Annotated[str, typer.Option("--user-id", metavar="ID", help="Rows that this person caused.")] = "",
    resource_type: Annotated[str, typer.Option("--resource-type", help="Rows about this kind of thing.")] = "",
    resource_id: Annotated[str, typer.Option("--resource-id", help="Rows about this one of them.")] = "",
    reason: ReasonOption = "",
    yes: process.YesOption = False,
    plan: PlanOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Erase one person's rows, or those about one thing, from the archive. Shows the plan; does it with --yes."""
    from adinsights_orchestration.audit_log.leaving.erasure import Erasure
    from adinsights_orchestration.audit_log.leaving.matching import Subject
    from adinsights_orchestration.cli.selection import tenant_id
    from adinsights_orchestration.plan_digest import require

    whose = tenant_id(process.settings(), tenant)
    subject = Subject(whose, user_id or None, resource_type or None, resource_id or None)
    work = Erasure(archive(), subject, reason)
    found = work.apply(plan) if yes else work.plan()
    if not yes:
        require(found.digest, plan)
    words = ["erase", "--tenant", tenant]
    options = (("--user-id", user_id), ("--resource-type", resource_type), ("--resource-id", resource_id))
    for option, value in (*options, ("--reason", reason or "REQUEST")):
        words += [option, value] if value else []
    command = _command(words, found.digest) if not (yes or found.obstacles or found.empty) else ""
    if as_json:
        process.print_json({"executed": yes, **_erasure(found), "plan": found.digest, "command": command})
    else:
        _show_erasure(found, done=yes)
        _finish(found.obstacles, found.digest, command)
    raise typer.Exit(EXIT_NOT_WELL if found.obstacles or found.swept.problem else 0)


def _command(words: list[str], digest: str) -> str:
    return shlex.join(["adinsights", "audit", *words, "--yes", "--plan", digest])


def _months(rows: dict[Any, int]) -> list[dict[str, Any]]:
    found: dict[str, int] = {}
    for day, count in rows.items():
        found[f"{day:%Y-%m}"] = found.get(f"{day:%Y-%m}", 0) + count
    return [{"month": month, "rows": count} for month, count in sorted(found.items())]


def _offboarding(plan: OffboardingPlan) -> dict[str, Any]:
    return {
        "rows": sum(plan.rows.values()),
        "by_month": _months(plan.rows),
        "kept": _months(plan.kept),
        "objects": len(plan.removed),
        "bytes": sum(file.size for file in plan.removed.values()),
        "unknown_tenant": plan.unknown,
        "obstacles": plan.obstacles,
        "handed_over": plan.exported[0] if plan.exported else None,
        "removed": plan.swept.removed,
        "refused": plan.swept.refused,
    }


def _show_offboarding(plan: OffboardingPlan, *, done: bool) -> None:
    verb = "left" if done else "would leave"
    title = f"{sum(plan.rows.values()):,} rows in {len(plan.removed):,} objects {verb} the archive"
    process.print_rows(_months(plan.rows), as_json=False, empty="nothing of this tenant leaves", title=title)
    if plan.exported:
        process.say(f"{plan.exported[0]:,} rows were handed over in {plan.exported[1]}, and read back there")
    if plan.kept:
        days = f"{min(plan.kept)} to {max(plan.kept)}"
        process.say(
            f"{sum(plan.kept.values()):,} rows from {days} stay: younger than a year (--younger)", style="yellow"
        )
    if plan.unknown:
        process.say(
            "The registry does not know this tenant, and no entry of its id in tenants.yaml holds its rows.",
            style="yellow",
        )
    say_swept(plan.swept, 0)


def _erasure(plan: ErasurePlan) -> dict[str, Any]:
    return {
        "rows": sum(plan.rows.values()),
        "by_day": {day.isoformat(): rows for day, rows in plan.rows.items()},
        "rewritten": len(plan.rewritten),
        "removed_whole": len(plan.removed),
        "former_rows_of_others": plan.former,
        "in_table": [" ".join(part or "" for part in key) for key in plan.in_table],
        "obstacles": plan.obstacles,
        "removed": plan.swept.removed,
        "refused": plan.swept.refused,
    }


def _show_erasure(plan: ErasurePlan, *, done: bool) -> None:
    verb = "were erased" if done else "would be erased"
    title = f"{sum(plan.rows.values()):,} rows {verb}; {len(plan.rewritten):,} objects anew, {len(plan.removed):,} gone"
    process.print_rows(
        _months(plan.rows), as_json=False, empty="no row of that is in force in the archive", title=title
    )
    if plan.former:
        process.say(
            f"{plan.former:,} rows of others as they were before their days were archived anew"
            f" {'went' if done else 'go'} along, in objects of which nothing in force is left",
            style="yellow",
        )
    if plan.in_table:
        process.say("--json lists the ids of the rows that are in the table (in_table)", style="yellow")
    say_swept(plan.swept, 0)


def _finish(obstacles: list[str], digest: str, command: str) -> None:
    for obstacle in obstacles[:_SHOWN]:
        process.say(f"in the way: {obstacle}", style="red")
    if command:
        out = process.console()
        out.print(f"Nothing was changed. Exactly this plan ({digest}) is carried out by:", markup=False)
        out.print(command, markup=False, soft_wrap=True)  # one line, however narrow the terminal: it is to be copied
