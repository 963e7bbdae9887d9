"""Stable randomness: the same parts give the same numbers in every process, on every machine, for ever.

Belongs here: turning names and dates into numbers. Does not belong here: what the numbers mean. Python's `hash` is
salted per process and `random` keeps state between calls, so neither can make a platform that answers twice alike.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b

_SCALE = 2.0**-32


def units(count: int, *parts: object) -> tuple[float, ...]:
    """Returns `count` (at most 16) independent numbers in [0, 1), a pure function of `parts`."""
    text = "\x1f".join(map(str, parts)).encode()
    return tuple(n * _SCALE for n in struct.unpack(f">{count}I", blake2b(text, digest_size=4 * count).digest()))


def unit(*parts: object) -> float:
    """Returns one number in [0, 1), a pure function of `parts`."""
    return units(1, *parts)[0]


def between(low: float, high: float, share: float) -> float:
    """Returns the point that lies `share` (0 to 1) of the way from `low` to `high`."""
    return low + (high - low) * share


def identifier(digits: int, index: int, *parts: object) -> str:
    """Returns a decimal id of `digits` digits; `index` (below 10,000) keeps ids of one parent apart."""
    lead = int(between(10 ** (digits - 5), 10 ** (digits - 4), unit("id", *parts)))
    return f"{lead}{index:04d}"


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Splits `total` into whole parts by `weights`; the parts sum to it exactly, without any weight they are zeros."""
    scale = sum(weights)
    if not scale:
        return [0] * len(weights)
    parts, spent, reached = [], 0, 0.0
    for weight in weights:
        reached += weight
        upto = round(total * reached / scale)
        parts.append(upto - spent)
        spent = upto
    return parts
