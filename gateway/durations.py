"""Durations and rates as people write them: ``"250ms"``, ``"5s"``, ``"1h30m"``, or a number of seconds;
``"100/s"``, ``"10/m"``, or a number for each second."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:/\s*([smh]))?")


def duration(text: str) -> float | None:
    """Seconds in text like ``"5s"``, ``"1h30m"`` or ``"2.5"``; None if it is none."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))


def rate(text: str) -> float | None:
    """So many a second, in text like ``"100/s"``, ``"10/m"`` or ``"2.5"``; None if it is none."""
    match = _RATE.fullmatch(text.strip())
    return None if match is None else float(match[1]) / _UNITS[match[2] or "s"]


def rate_text(rate: float) -> str:
    """A rate in the largest unit that makes it a whole number, if one does: ``"20/s"``, ``"10/m"``."""
    for unit in "smh":
        number = rate * _UNITS[unit]
        if number and abs(number - round(number)) < 1e-9 * number:
            return f"{round(number)}/{unit}"
    return f"{rate:g}/s"
