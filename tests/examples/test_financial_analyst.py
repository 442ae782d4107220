"""The CrewAI financial analyst, driven over stdio by a foreign MCP client, and its script runner.

The example has its own environment (crewai and the gateway cannot share one). `uv run` makes it the first
time this module runs, or `uv sync --project examples/financial_analyst` before that. The language model is
the example's own stand-in: nothing leaves loopback.
"""

import asyncio
import base64
import importlib.util
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, ImageContent, TextContent

from ..conftest import wait_until
from ..support.ports import find_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "financial_analyst"
COMMAND = ["uv", "run", "--project", str(EXAMPLE), "python"]
PNG = b"\x89PNG\r\n\x1a\n"
pytestmark = pytest.mark.asyncio(loop_scope="module")


def load(name: str) -> ModuleType:
    """A module of the example by its file, for the example is no package."""
    spec = importlib.util.spec_from_file_location(f"financial_analyst_{name}", EXAMPLE / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Analyst:
    """The running example, and all that it said in the order in which it arrived."""

    session: ClientSession
    heard: list[Any] = field(default_factory=list)

    async def ask(self, query: str) -> CallToolResult:
        async def note(progress: float, total: float | None, message: str | None) -> None:
            self.heard.append((progress, total, message))

        self.heard.clear()
        result = await self.session.call_tool("analyze_stock", {"query": query}, progress_callback=note)
        self.heard.append(result)
        return result


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def analyst() -> AsyncIterator[Analyst]:
    """One process for the module: crewai takes seconds to import. One task enters and leaves it."""
    ready: asyncio.Future[Analyst] = asyncio.get_running_loop().create_future()
    finished = asyncio.Event()
    server = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], str(EXAMPLE / "mcp_server.py")],
        env={**os.environ, "ANALYST_STANDIN": "1", "ANALYST_CODE_TOOLS": "1"},
    )

    async def serve() -> None:
        try:
            async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                ready.set_result(Analyst(session))
                await finished.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    task = asyncio.create_task(serve())
    yield await ready
    finished.set()
    await task


def plot_of(result: CallToolResult) -> bytes:
    assert not result.is_error, result.content
    image = result.content[1]
    assert isinstance(image, ImageContent) and image.mime_type == "image/png"
    return base64.b64decode(image.data)


@pytest.mark.slow
async def test_a_question_becomes_a_plot_with_progress_on_the_way(analyst: Analyst) -> None:
    result = await analyst.ask("plot the closing prices of Apple and MSFT, last 3 months")

    assert analyst.heard[-1] is result
    assert [step for step, _, _ in analyst.heard[:-1]] == [1, 2, 3, 4]
    assert analyst.heard[0][2] == "query parsed: AAPL, MSFT; close; last 3 months; plot"
    assert analyst.heard[-2][2] == "done"
    png = plot_of(result)
    assert png.startswith(PNG) and png[12:16] == b"IHDR"
    assert struct.unpack(">II", png[16:24]) == (900, 500)
    assert isinstance(result.content[0], TextContent)
    assert "AAPL rose" in result.content[0].text and "MSFT rose" in result.content[0].text
    assert result.structured_content is not None
    assert result.structured_content["query"] == {
        "symbols": ["AAPL", "MSFT"],
        "timeframe": "3 months",
        "measure": "close",
        "action": "plot",
    }
    assert "savefig" in result.structured_content["script"]


@pytest.mark.slow
async def test_the_same_question_gives_the_same_bytes_and_another_one_others(analyst: Analyst) -> None:
    first = plot_of(await analyst.ask("compare NVDA with Google over the last six weeks"))
    again = plot_of(await analyst.ask("compare NVDA with Google over the last six weeks"))
    other = plot_of(await analyst.ask("compare NVDA with Amazon over the last six weeks"))

    assert first == again
    assert first != other


@pytest.mark.slow
async def test_a_question_without_a_known_ticker_is_an_error_that_names_them(analyst: Analyst) -> None:
    result = await analyst.ask("plot the {weather}")

    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    assert "AAPL, AMZN, GOOGL, MSFT, NVDA" in result.content[0].text


@pytest.fixture(scope="module")
def acp_url() -> Iterator[str]:
    """The ACP agent in a process of its own, from the moment at which it says that it listens."""
    port = find_port()
    process = subprocess.Popen(
        [*COMMAND, str(EXAMPLE / "acp_agent.py"), str(port)],
        env={**os.environ, "ANALYST_STANDIN": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    with process, process.stdout as output:
        assert any("Uvicorn running" in line for line in output), "the ACP agent ended"
        reader = threading.Thread(target=output.read)
        reader.start()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        reader.join()


def run_request(mode: str, question: str) -> dict[str, Any]:
    message = {"role": "user", "parts": [{"content_type": "text/plain", "content": question}]}
    return {"agent_name": "financial-analyst", "mode": mode, "input": [message]}


@pytest.mark.slow
async def test_an_acp_run_carries_the_very_plot_of_the_mcp_tool(analyst: Analyst, acp_url: str) -> None:
    question = "volume of Amazon, last 20 days"

    async with httpx.AsyncClient(base_url=acp_url, timeout=120) as client:
        run = (await client.post("/runs", json=run_request("sync", question))).json()

    assert run["status"] == "completed", run["error"]
    parts = [part for message in run["output"] for part in message["parts"]]
    artifact = next(part for part in parts if part["name"] == "/plot.png")
    assert (artifact["content_type"], artifact["content_encoding"]) == ("image/png", "base64")
    assert base64.b64decode(artifact["content"]) == plot_of(await analyst.ask(question))
    query = next(json.loads(part["content"]) for part in parts if part["content_type"] == "application/json")
    assert (query["symbols"], query["measure"], query["timeframe"]) == (["AMZN"], "volume", "20 days")


@pytest.mark.slow
async def test_an_acp_stream_tells_each_step_before_the_plot(acp_url: str) -> None:
    request = run_request("stream", "compare NVDA and MSFT, 1 month")

    async with (
        httpx.AsyncClient(base_url=acp_url, timeout=120) as client,
        client.stream("POST", "/runs", json=request) as response,
    ):
        events = [json.loads(line[5:]) async for line in response.aiter_lines() if line.startswith("data:")]

    steps = [
        (at, event["generic"]["progress"]) for at, event in enumerate(events) if event["type"] == "generic"
    ]
    parts = [(at, event["part"]) for at, event in enumerate(events) if event["type"] == "message.part"]
    plot = next(at for at, part in parts if part["name"] == "/plot.png")
    assert [step for _, step in steps] == [1, 2, 3, 4]
    assert steps[-1][0] < plot
    texts = [part["content"] or "" for _, part in parts]
    assert any(text.startswith("NVDA ") for text in texts) and any(text.startswith("MSFT ") for text in texts)
    assert events[-1]["type"] == "run.completed"


@pytest.mark.slow
async def test_an_acp_question_without_a_known_ticker_fails_as_invalid_input(acp_url: str) -> None:
    async with httpx.AsyncClient(base_url=acp_url, timeout=120) as client:
        run = (await client.post("/runs", json=run_request("sync", "plot the weather"))).json()

    assert (run["status"], run["error"]["code"]) == ("failed", "invalid_input")


@pytest.mark.slow
async def test_a_host_can_save_and_run_a_script_of_its_own(analyst: Analyst) -> None:
    code = (
        "import os, matplotlib.pyplot as plt\n"
        "print(sorted(os.environ))\n"
        "plt.plot([1])\n"
        "plt.savefig('plot.png')\n"
    )
    saved = await analyst.session.call_tool("save_code", {"code": code})
    assert isinstance(saved.content[0], TextContent)

    result = await analyst.session.call_tool("run_code_and_show_plot", {"script_id": saved.content[0].text})

    assert plot_of(result).startswith(PNG)
    assert isinstance(result.content[0], TextContent)
    assert "ANALYST" not in result.content[0].text and "PATH" in result.content[0].text


async def test_prices_are_the_ones_that_the_generator_writes(tmp_path: Path) -> None:
    generator = load("make_prices")
    days = generator.trading_days()
    lines = [",".join(row) for ticker in generator.TICKERS for row in generator.rows(ticker, days)]

    assert (EXAMPLE / "prices.csv").read_text(encoding="utf-8").splitlines()[1:] == lines


async def test_an_endless_script_is_killed_with_its_children() -> None:
    runner = load("runner")
    code = (
        "import subprocess, sys, time\n"
        "endless = 'import time\\nwhile True: time.sleep(1)'\n"
        "child = subprocess.Popen([sys.executable, '-c', endless])\n"
        "print(child.pid)\n"
        "while True: time.sleep(1)\n"
    )

    run = await asyncio.to_thread(runner.run_script, code, 4.0)

    assert run.ending == "timed out" and run.png is None
    child = int(run.output)
    await asyncio.to_thread(wait_until, "the child has ended", lambda: gone(child))


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("code", "ending", "output"),
    [
        ("print('fine')", "finished", "fine"),
        ("raise SystemExit('broken')", "failed", "broken"),
        ("while True: print('x' * 1000)", "printed too much", "xxx"),
        ("open('plot.png', 'w').write('no picture')", "finished", ""),
    ],
)
async def test_a_script_ends_as_it_should_without_false_plot(code: str, ending: str, output: str) -> None:
    runner = load("runner")

    run = await asyncio.to_thread(runner.run_script, code, 60.0)

    assert run.ending == ending
    assert output in run.output and len(run.output) <= runner.MAX_OUTPUT
    assert run.png is None


async def test_a_plot_that_is_a_link_to_somebody_elses_picture_is_none(tmp_path: Path) -> None:
    runner = load("runner")
    (tmp_path / "private.png").write_bytes(PNG)

    run = await asyncio.to_thread(
        runner.run_script, f"import os; os.symlink({str(tmp_path / 'private.png')!r}, 'plot.png')", 60.0
    )

    assert run.ending == "finished" and run.png is None
