"""The financial analyst as an MCP server over stdio: `python mcp_server.py`.

Tool analyze_stock(query): reports progress while the crew works, then returns the analysis as text, the plot
as a PNG and the parsed query, script and printed numbers as structured content. ANALYST_CODE_TOOLS=1 adds
save_code and run_code_and_show_plot, which run code of the caller's own.
"""

import asyncio
import base64
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TextIO

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, Field

import settings
from analyst import STEPS, Analysis, AnalysisFailed, Query, analyze, preload
from runner import run_script

EXAMPLE = "plot the closing prices of AAPL and MSFT, last 3 months"


class Answer(BaseModel):
    """The structured half of an analysis."""

    query: Query
    script: str
    output: str


@asynccontextmanager
async def lifespan(_: FastMCP) -> AsyncIterator[None]:
    """From here on the transport holds the real standard output, and all prints go to standard error."""
    sys.stdout = sys.stderr
    preload()
    yield


mcp = FastMCP("financial-analyst", lifespan=lifespan, log_level="WARNING")


@mcp.tool()
async def analyze_stock(
    query: Annotated[str, Field(description=f'For example "{EXAMPLE}"')],
    ctx: Context[Any, Any, Any],
) -> Annotated[CallToolResult, Answer]:
    """Answers a question about stock prices with a plot and the numbers behind it."""
    try:
        async for event in analyze(query):
            if isinstance(event, Analysis):
                answer = Answer(query=event.query, script=event.script, output=event.output)
                return CallToolResult(
                    content=[TextContent(type="text", text=event.text), _image(event.png)],
                    structuredContent=answer.model_dump(),
                )
            await ctx.report_progress(event.step, STEPS, event.message)
    except AnalysisFailed as error:
        raise ToolError(str(error)) from error
    raise ToolError("The crew ended without an answer.")


def add_code_tools(server: FastMCP) -> None:
    """The two tools with which a host runs a script of its own; scripts are kept until the process ends."""
    saved: dict[str, str] = {}

    @server.tool()
    async def save_code(code: str) -> str:
        """Saves a Python script that reads prices.csv and saves plot.png; returns its id."""
        if len(code) > 100_000 or len(saved) >= 1000:
            raise ToolError("The script is too long, or there are too many.")
        script_id = hashlib.sha256(code.encode()).hexdigest()[:16]
        saved[script_id] = code
        return script_id

    @server.tool()
    async def run_code_and_show_plot(script_id: str) -> CallToolResult:
        """Runs a saved script within the time limit; returns what it printed and plotted."""
        if script_id not in saved:
            raise ToolError("There is no script of that id: save it first with save_code.")
        run = await asyncio.to_thread(run_script, saved[script_id], settings.TIME_LIMIT)
        text = TextContent(type="text", text=run.report())
        return CallToolResult(content=[text, _image(run.png)] if run.png else [text], isError=run.png is None)


def _image(png: bytes) -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(png).decode(), mimeType="image/png")


def keep_stdout_for_protocol() -> TextIO:
    """Give the transport a private copy of descriptor 1 and point the public one, banners and all, at stderr.

    The caller must keep what this returns: it closes the descriptor when it is collected.
    """
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(private, "w", encoding="utf-8")
    return sys.stdout


if __name__ == "__main__":
    if settings.CODE_TOOLS:
        add_code_tools(mcp)
    protocol = keep_stdout_for_protocol()
    mcp.run("stdio")
