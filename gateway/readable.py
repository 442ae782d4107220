"""What clients and agents send, before it is believed: whether it can be read, and handed on, at all."""

from __future__ import annotations

# What decoders of JSON raise: for other types than were asked for, what is no UTF-8, what is nested too deep.
UNREADABLE = (ValueError, RecursionError)


def must_be_text(data: bytes) -> None:
    """Raises ValueError for what is no UTF-8: decoders do not look into what they pass over."""
    if not data.isascii():
        str(data, "utf-8")
