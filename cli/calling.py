"""The work behind ``agentgw call``: one turn after another until the task has ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from urllib.parse import quote

import msgspec

from ..gateway.durations import duration
from ..gateway.errors import GatewayError
from ..gateway.lifecycle import PAUSED, TERMINAL
from ..gateway.model import InputRequest, Logged, Part, Task, TaskState
from ..gateway.transport import Transport
from . import ask
from .answer import Printer, document, failure
from .client import Gateway
from .find import Target, find, transport
from .terminal import FAILED, INPUT_REQUIRED, Stop, WrongUse, note, print_json, printable

CANCEL_WAIT = 10.0  # seconds for the agent to stop after Ctrl-C


class Request(msgspec.Struct, kw_only=True):
    """The body of the call API."""

    parts: Sequence[Part]
    skill: str | None = None
    context_id: str | None = None
    task_id: str | None = None


class Turn(msgspec.Struct):
    """A turn so far: the task as last reported."""

    task: Task | None = None
    trace_id: str | None = None
    interrupted: bool = False


@contextlib.asynccontextmanager
async def _reached(http: Transport, request: Request) -> AsyncGenerator[tuple[Target, bool]]:
    """The running gateway, else one in this process for the time of the call (then False)."""
    target = await find(http)
    if target is not None:
        yield target, True
        return
    if request.task_id is not None:
        raise WrongUse("--task needs a running gateway, which remembers tasks: start agentgw serve")
    from . import process
    from .configuration import load
    from .owner import home

    async with process.embedded(load(), home=home(), refresh=False) as inside:
        yield Target(inside.url, inside.token), False


def limits(*, total: str | None, idle: str | None) -> list[tuple[str, str]]:
    """The headers for ``--timeout`` and ``--idle-timeout``. Raises WrongUse for what is no duration."""
    given = (("--timeout", "agentgw-total-timeout", total), ("--idle-timeout", "agentgw-idle-timeout", idle))
    for option, _, text in given:
        if text is not None and not duration(text):
            raise WrongUse(f"{option} {text}: a duration is written like 30s, 5m or 1h")
    return [(header, text) for _, header, text in given if text is not None]


async def call(
    name: str, request: Request, *, limits: Sequence[tuple[str, str]], as_json: bool, output: str | None
) -> int:
    """Call, print, ask, go on; the exit status. ``limits``: headers that every turn is sent with."""
    async with transport() as http, _reached(http, request) as (target, lasting):
        gateway = Gateway(http, target)
        printer = Printer(output)
        show: Callable[[Logged], None] = _silent if as_json else lambda logged: printer.event(logged.event)
        while True:
            turn = await _turn(gateway, name, request, limits, show)
            printer.end()
            task = turn.task
            if task is None:
                raise Stop("interrupted" if turn.interrupted else f"{name}: the answer broke off")
            if task.input_request is None or as_json or turn.interrupted or not ask.possible():
                break
            if task.input_request.kind == "auth":
                break
            answer = await _asked(gateway, task, task.input_request)
            if answer is None:
                break
            request = Request(parts=answer, task_id=task.id, context_id=task.context_id)
    return _finish(task, turn.trace_id, as_json, lasting)


def _silent(logged: Logged) -> None:
    pass


async def _turn(
    gateway: Gateway,
    name: str,
    request: Request,
    limits: Sequence[tuple[str, str]],
    show: Callable[[Logged], None],
) -> Turn:
    """One turn, from the message to its end or the next question. Ctrl-C cancels the task."""
    turn = Turn()
    canceling: list[asyncio.Task[None]] = []
    reading = asyncio.create_task(_read(gateway, name, request, limits, turn, show))
    with _interrupts(lambda: canceling.append(asyncio.create_task(_interrupt(gateway, turn, reading)))):
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        for waiting in canceling:
            waiting.cancel()
    return turn


async def _read(
    gateway: Gateway,
    name: str,
    request: Request,
    limits: Sequence[tuple[str, str]],
    turn: Turn,
    show: Callable[[Logged], None],
) -> None:
    async for event in gateway.events(f"/agents/{quote(name, safe='')}/call", request, limits):
        if event.event == "task":
            turn.task = msgspec.json.decode(event.data, type=Task)
            turn.trace_id = msgspec.json.decode(event.data).get("trace_id") or turn.trace_id
        elif event.event == "event":
            show(msgspec.json.decode(event.data, type=Logged))


async def _interrupt(gateway: Gateway, turn: Turn, reading: asyncio.Task[None]) -> None:
    """Cancel the task upstream and let the agent end it; a second Ctrl-C does not wait."""
    if turn.interrupted or turn.task is None:
        turn.interrupted = True
        reading.cancel()
        return
    turn.interrupted = True
    note("canceling… (Ctrl-C again: do not wait)")
    try:
        await cancel(gateway, turn.task.id)
        await asyncio.sleep(CANCEL_WAIT)
    except (GatewayError, Stop) as e:
        note(e.message)
    reading.cancel()


async def cancel(gateway: Gateway, task_id: str) -> None:
    """Cancel a task at its agent."""
    await gateway.request("POST", f"/tasks/{quote(task_id, safe='')}/cancel", {}, timeout=CANCEL_WAIT)


@contextlib.contextmanager
def _interrupts(callback: Callable[[], None]) -> Generator[None]:
    """Call back on Ctrl-C inside the block."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGINT, callback)
    except (NotImplementedError, RuntimeError):  # Windows, or not the main thread: Ctrl-C ends the command
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _asked(gateway: Gateway, task: Task, question: InputRequest) -> list[Part] | None:
    """The user's answer; None when there is none (Ctrl-D). Ctrl-C cancels the task and ends the command.

    Reading the terminal blocks the loop, on purpose: nothing else goes on, and Ctrl-C comes at once.
    """
    try:
        with _default_interrupt():
            return ask.ask(question)
    except ask.Unanswered:
        return None
    except KeyboardInterrupt:
        await cancel(gateway, task.id)
        raise Stop(f"{task.agent}: canceled") from None


@contextlib.contextmanager
def _default_interrupt() -> Generator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _finish(task: Task, trace_id: str | None, as_json: bool, lasting: bool) -> int:
    """Print the end; the exit status. ``lasting``: whether the task can be answered later."""
    if as_json:
        print_json(document(task, trace_id))
    if task.state is TaskState.COMPLETED:
        return 0
    if task.state in PAUSED:
        if not as_json:
            _how_to_answer(task, lasting)
        return INPUT_REQUIRED
    if as_json:
        return FAILED
    if task.state not in TERMINAL:
        raise Stop(f"{task.agent}: the task {task.id} is still {task.state}")
    raise Stop(failure(task))


def _how_to_answer(task: Task, lasting: bool) -> None:
    question = task.input_request
    if question is not None and not ask.possible():
        note(printable(question.prompt))
        if question.schema is not None:
            note("answer with --data, to fit " + msgspec.json.encode(question.schema).decode())
    if question is not None and question.url:
        note(f"open {question.url}")
    if lasting:
        note(f"to answer: agentgw call {task.agent} TEXT --task {task.id}")
    else:
        note("to answer questions from scripts, start agentgw serve and call again: it remembers tasks")
