"""Dagster's native freshness policies, made from the SLA table.

Belongs here: from a threshold to a policy. Does not belong here: which asset carries one.
"""

from __future__ import annotations

import dagster as dg

from adinsights_orchestration.freshness.sla import Threshold


def native_policy(threshold: Threshold) -> dg.FreshnessPolicy:
    """Returns the policy of a threshold that is a time: WARN from `warn` on, FAIL from `page` on."""
    warn = threshold.warn_after if threshold.warn < threshold.page else None
    return dg.FreshnessPolicy.time_window(fail_window=threshold.page_after, warn_window=warn)
