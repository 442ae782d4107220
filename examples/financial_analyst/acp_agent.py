"""The financial analyst as an ACP agent on acp-sdk: `python acp_agent.py PORT`, agent name financial-analyst.

While the crew works it yields generic events; then the script and what it printed as a trajectory part, the
parsed query as a JSON part, the analysis line by line as text parts, and the plot as the artifact /plot.png.
"""

import base64
import signal
import sys
from collections.abc import AsyncGenerator

from acp_sdk.models import (
    ACPError,
    Artifact,
    Capability,
    Error,
    ErrorCode,
    Message,
    MessagePart,
    Metadata,
    TrajectoryMetadata,
)
from acp_sdk.server import RunYield, RunYieldResume, Server

from analyst import STEPS, Analysis, AnalysisFailed, NotUnderstood, Progress, analyze, preload

server = Server()


@server.agent(
    name="financial-analyst",
    input_content_types=["text/plain"],
    output_content_types=["text/plain", "application/json", "image/png"],
    metadata=Metadata(
        framework="CrewAI",
        programming_language="Python",
        natural_languages=["en"],
        tags=["finance", "plot"],
        capabilities=[
            Capability(name="Analyze stock prices", description="Plots prices and tells the change.")
        ],
    ),
)
async def financial_analyst(input: list[Message]) -> AsyncGenerator[RunYield, RunYieldResume]:
    """Answers a question about stock prices with a plot and the numbers behind it."""
    try:
        async for event in analyze(str(input[-1])):
            match event:
                case Progress(step, message):
                    yield {"progress": step, "total": STEPS, "message": message}
                case Analysis():
                    yield MessagePart(
                        metadata=TrajectoryMetadata(
                            message="the script that was run",
                            tool_name="run_script",
                            tool_input={"code": event.script},
                            tool_output={"printed": event.output},
                        )
                    )
                    yield MessagePart(content_type="application/json", content=event.query.model_dump_json())
                    for line in event.text.splitlines(keepends=True):
                        yield MessagePart(content=line)
                    yield Artifact(
                        name="/plot.png",
                        content_type="image/png",
                        content_encoding="base64",
                        content=base64.b64encode(event.png).decode(),
                    )
    except AnalysisFailed as error:
        code = ErrorCode.INVALID_INPUT if isinstance(error, NotUnderstood) else ErrorCode.SERVER_ERROR
        raise ACPError(Error(code=code, message=str(error))) from error


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that temporary directories are removed
    preload()
    server.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, self_registration=False)
