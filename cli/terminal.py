"""What the commands print with: one JSON document, notes on stderr, tables, colour where a terminal is.

Importing this is cheap on purpose: ``agentgw --help`` passes through here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TextIO, TypeVar

T = TypeVar("T")

FAILED = 1
WRONG_USE = 2
INPUT_REQUIRED = 3

BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"


class Stop(Exception):
    """Ends the command with one line on stderr and an exit status."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class WrongUse(Stop):
    """The command line itself is wrong (exit status 2)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, WRONG_USE)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. asyncio is imported only when a command needs it."""
    import asyncio

    return asyncio.run(main)


def print_json(value: Any) -> None:
    """``value`` (structs, bytes and all) as the one JSON document on stdout."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2)
    if b"\x7f" in text or not text.isascii():  # JSON lets be what steers some terminals
        text = text.decode().translate({ord(c): f"\\u{ord(c):04x}" for c in _STEERING}).encode()
    sys.stdout.buffer.write(text + b"\n")
    sys.stdout.flush()


def note(text: str, *, style: str | None = None) -> None:
    """A line for people, on stderr; whoever chose its words, they don't steer the terminal."""
    print(paint(printable(text), style, sys.stderr), file=sys.stderr, flush=True)


def tame_log() -> None:
    """What is logged goes to stderr; of its words, too, some are an agent's or a client's."""
    import logging

    class Tame(logging.Formatter):
        def formatMessage(self, record: logging.LogRecord) -> str:
            return one_line(super().formatMessage(record))

        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    if logging.lastResort is not None:  # nothing else is configured
        logging.lastResort.setFormatter(Tame())


def one_line(text: str) -> str:
    """``text`` with its line breaks and control characters made spaces: nothing an agent says can
    break out of its line or steer the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def printable(text: str) -> str:
    """``text`` without the control characters that would steer a terminal (line breaks and tabs stay)."""
    if text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or (c >= " " and c not in _STEERING))


_STEERING = frozenset(map(chr, range(0x7F, 0xA0)))


def colours(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that wants colour (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, style: str | None, stream: TextIO) -> str:
    """``text`` in a style where ``stream`` shows colour, else as it is."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and colours(stream) else text


def width() -> int:
    """Columns of the terminal, 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart; no trailing spaces."""
    lines = [tuple(header), *(tuple(one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class StatusLine:
    """A single line on stderr that is rewritten in place; nothing at all where stderr is no terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line's text."""
        if self._on:
            cut = one_line(text)[: max(width() - 1, 10)]
            sys.stderr.write("\r\x1b[2K" + paint(cut, DIM, sys.stderr))
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
