"""How the ad platforms fail when asked to: the fault knobs of one provider.

Belongs here: the knobs' names, defaults and meaning. Does not belong here: how a platform words a refusal (its own
module) and who turns the knobs (the loopback service). A `..._next` knob is the number of answers still to spoil.
"""

from __future__ import annotations

from adinsights_orchestration.local.knobs import Knob, KnobArea, Knobs
from adinsights_orchestration.tenants.model import Provider

EXTRA_FIELD = "conversion_quality"  # what a platform adds to its reports when `schema_extra_field` is on
EXTRA_FIELD_TYPE = "integer"
KNOBS = (
    Knob("latency_ms", 0, "Holds every answer back this many milliseconds."),
    Knob("rate_limited_next", 0, "Answers this many requests with the platform's rate limit."),
    Knob("server_error_next", 0, "Answers this many requests with an error on the platform's side."),
    Knob("malformed_json_next", 0, "Cuts this many answers off in the middle, with status 200."),
    Knob("auth_revoked", False, "Treats every access token as revoked."),
    Knob("empty", False, "Reports have no rows."),
    Knob("schema_extra_field", False, f"Reports have a field that no schema announced: {EXTRA_FIELD}."),
)


def declare(knobs: Knobs, provider: Provider) -> KnobArea:
    """Makes a provider's knobs known as area `ads.<provider>` and returns the view that its routes read."""
    return knobs.declare(f"ads.{provider.value}", KNOBS)
