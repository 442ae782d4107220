"""What the two servers share: the events of one analysis, in the order in which they happen.

In: a question in plain words. Out: an async stream of `Progress`, and one `Analysis` at its end; or an
`AnalysisFailed` whose text is fit for the user. Importing this is cheap: crewai, which takes seconds to
import, is loaded in a worker thread (`preload` starts that early).
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, Field

import runner


class Query(BaseModel):
    """What the user asked for, as the query parser understood it."""

    symbols: list[str] = Field(description="Ticker symbols, only such as have prices; empty if none is named")
    timeframe: str = Field(description='A time span such as "10 days", "6 weeks", "3 months" or "1 year"')
    measure: Literal["close", "open", "high", "low", "volume"] = Field(description="The column to plot")
    action: Literal["plot", "compare"] = Field(
        description='"compare" draws each series in per cent of its first value, "plot" draws it as it is'
    )

    def __str__(self) -> str:
        return f"{', '.join(self.symbols)}; {self.measure}; last {self.timeframe}; {self.action}"


@dataclass(frozen=True)
class Progress:
    """Step `step` of `STEPS` is reached; `message` says what that means."""

    step: int
    message: str


STEPS = 4


@dataclass(frozen=True)
class Analysis:
    """The answer: prose, the plot, and how it came about."""

    text: str
    png: bytes
    query: Query
    script: str
    output: str


class AnalysisFailed(Exception):
    """No plot came out of this question; the text says why, in words meant for the user."""


class NotUnderstood(AnalysisFailed):
    """It is the question that has to change."""


def preload() -> None:
    """Import the crew and find the fonts in the background, so that the first question waits less."""

    def load() -> None:
        with suppress(Exception):  # the first question meets the same error, and somebody hears it
            import crew  # noqa: F401

            runner.font_cache()

    threading.Thread(target=load, name="preload", daemon=True).start()


async def analyze(question: str) -> AsyncIterator[Progress | Analysis]:
    """Let the crew work on `question` in a thread and yield what it reports.

    Closing the iterator asks the crew to stop: it does so at its next step.
    """
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Progress | Analysis | Exception] = asyncio.Queue()
    abandoned = threading.Event()

    def report(event: Progress | Analysis | Exception) -> None:
        if abandoned.is_set():
            raise AnalysisFailed("Nobody waits for this answer any more.")
        loop.call_soon_threadsafe(events.put_nowait, event)

    def work() -> None:
        try:
            import crew

            report(crew.run(question, report))
        except Exception as error:
            if not abandoned.is_set():
                report(error)

    threading.Thread(target=work, name="crew", daemon=True).start()
    try:
        while not isinstance(event := await events.get(), Analysis):
            if isinstance(event, Exception):
                raise event
            yield event
        yield event
    finally:
        abandoned.set()
