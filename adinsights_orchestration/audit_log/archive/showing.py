"""What the UI shows of the archive: counts, sizes, durations, rows per day as a small picture; never a row's content.

Belongs here: rendering reports as metadata. Does not belong here: the reports (`report`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from adinsights_orchestration.audit_log.alerts import archive_asset
from adinsights_orchestration.audit_log.archive.report import ArchiveReport, DayReport
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchivedDay
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source

_KEPT = 20
_WIDTH, _HEIGHT, _MARGIN = 640, 160, 24


def key_of(source: Source) -> dg.AssetKey:
    """The asset of a table's archive."""
    return dg.AssetKey(archive_asset(source).split("/"))


KEY = key_of(AUDIT_LOG)


def of_day(day: DayReport) -> dict[str, Any]:
    """The metadata of one day's materialization."""
    return {
        "dagster/row_count": day.archived,
        "rows in the table": day.rows,
        "rows in the archive": day.archived,
        "bytes": day.size,
        "objects": day.files,
        "revision": day.revision,
        "sealed now": day.changed,
        "late rows": day.late,
        "vanished rows": day.vanished,
        "changed rows": day.altered,
    }


def of_archived(day: ArchivedDay) -> dict[str, Any]:
    """The metadata of a day of which only the ledger tells."""
    return {
        "dagster/row_count": day.rows,
        "rows in the archive": day.rows,
        "bytes": day.size,
        "objects": day.files,
        "revision": day.revision,
        "sealed at": dg.MetadataValue.timestamp(day.sealed_at),
    }


def of_run(report: ArchiveReport, archived: Mapping[date, int]) -> dict[str, Any]:
    """What is added to the last day's: the run, and the whole archive that it left.

    Args:
        report: The run.
        archived: Rows of every day that is archived.
    """
    return {
        "days in this run": len(report.days),
        "run seconds": round(report.seconds, 2),
        "kept, because the table lacks a column by now": dg.MetadataValue.json(
            {f"{tenant} {day}": why for (tenant, day), why in sorted(report.kept.items())[:_KEPT]}
        ),
        "rows with an odd time": report.odd_rows,
        "bytes written": report.written,
        "objects written": report.objects,
        "oldest archived day": str(min(archived, default="none")),
        "archived days": len(archived),
        "archived rows": sum(archived.values()),
        "rows per day": dg.MetadataValue.md(picture(archived)),
    }


def picture(rows: Mapping[date, int]) -> str:
    """Bars of rows per day, as an image in Markdown."""
    days = sorted(rows)
    if not days:
        return "no days"
    return f"![rows per day](data:image/svg+xml;base64,{base64.b64encode(_svg(days, rows).encode()).decode()})"


def _svg(days: Sequence[date], rows: Mapping[date, int]) -> str:
    most = max(*rows.values(), 1)
    step = (_WIDTH - 2 * _MARGIN) / len(days)
    room = _HEIGHT - 2 * _MARGIN
    bars = []
    for number, day in enumerate(days):
        height = room * rows[day] / most
        x, y = _MARGIN + number * step, _HEIGHT - _MARGIN - height
        bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(step * 0.9, 0.5):.1f}" height="{height:.1f}"/>')
    text = 'font-family="sans-serif" font-size="11" fill="#555"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/><g fill="#3b6fb6">{"".join(bars)}</g>'
        f'<text x="{_MARGIN}" y="16" {text}>at most {most:,} rows a day</text>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 8}" {text}>{days[0]}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 8}" text-anchor="end" {text}>{days[-1]}</text></svg>'
    )
