"""The crew: a query parser, a code writer and a code executor, one after the other.

In: a question and a function that takes `Progress`. Out: an `Analysis`, or `AnalysisFailed`. Importing this
module imports crewai, which takes seconds.
"""

import csv
import logging
import re
from collections.abc import Callable

import settings
from analyst import Analysis, AnalysisFailed, NotUnderstood, Progress, Query
from runner import PRICES, Run, run_script

settings.quiet_crewai()
logging.getLogger("crewai.llms.base_llm").setLevel(logging.ERROR)  # it counts tokens aloud

from crewai import LLM, Agent, Crew, Process, Task  # noqa: E402
from crewai.tasks.task_output import TaskOutput  # noqa: E402
from crewai.tools import BaseTool  # noqa: E402
from pydantic import BaseModel, PrivateAttr  # noqa: E402

COMPANIES = {
    "AAPL": "Apple",
    "AMZN": "Amazon",
    "GOOGL": "Alphabet, Google",
    "MSFT": "Microsoft",
    "NVDA": "Nvidia",
}
FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)
THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)

PARSE = """Read the request between the marks and say which tickers, time span and column it asks for.
Tickers with prices:
{tickers}
The request:
<request>
{question}
</request>"""

WRITE = """Write a Python script for the parsed query of your colleague.
prices.csv in the current directory has the columns date,ticker,open,high,low,close,volume, with ISO dates in
ascending order, the last of them {last_day}; count the time span back from there. Plot one line per ticker
with matplotlib, title and legend included, and save it with
plt.savefig("plot.png", metadata={{"Software": None}}).
Print one line per ticker: its first and last value, the change in per cent, the lowest and the highest value.
Use only the standard library, pandas and matplotlib; open no network connection and show no window."""

EXECUTE = """Run your colleague's script, unchanged, with the tool run_script. If it fails, mend it and
run it again.
Then tell the user in plain sentences what the printed numbers say; mention no number that was not printed."""


class ScriptArguments(BaseModel):
    code: str


class RunScript(BaseTool):
    """The executor's tool; it remembers the last run, for the plot is more than a model could repeat."""

    name: str = "run_script"
    description: str = "Runs a Python script and returns what it printed. The script has to save plot.png."
    args_schema: type[BaseModel] = ScriptArguments
    _report: Callable[[Progress], None] = PrivateAttr()
    _runs: list[tuple[str, Run]] = PrivateAttr(default_factory=list)

    def __init__(self, report: Callable[[Progress], None]) -> None:
        super().__init__()
        self._report = report

    def _run(self, code: str) -> str:
        self._report(Progress(3, "running the script"))
        script = unfenced(code)
        run = run_script(script, settings.TIME_LIMIT)
        self._runs.append((script, run))
        return run.report()

    def best(self) -> tuple[str, Run] | None:
        """The last run that saved a plot, else the last one."""
        plotted = [pair for pair in self._runs if pair[1].png]
        return (plotted or self._runs or [None])[-1]


def run(question: str, report: Callable[[Progress], None]) -> Analysis:
    """Answer one question; blocks for as long as the models and the script take. Call it in a thread."""
    model = LLM(model=settings.MODEL, base_url=settings.model_url(), temperature=0)
    tool = RunScript(report)

    def member(role: str, goal: str, backstory: str, tools: list[BaseTool]) -> Agent:
        return Agent(role=role, goal=goal, backstory=backstory, tools=tools, llm=model, max_iter=5)

    parser = member(
        "Query parser",
        "Turn a request about stock prices into tickers, time span, column and action.",
        "You read what people write and lose nothing of it.",
        [],
    )
    writer = member(
        "Code writer",
        "Write a short, correct Python script that plots stock prices.",
        "You are a senior Python developer who knows pandas and matplotlib by heart.",
        [],
    )
    executor = member(
        "Code executor",
        "Run scripts, mend them when they fail, and explain what they print.",
        "You trust only what you have run.",
        [tool],
    )
    parse = Task(
        description=PARSE.format(tickers=known_tickers(), question=question),
        expected_output="The parsed query.",
        agent=parser,
        output_pydantic=Query,
    )
    write = Task(
        description=WRITE.format(last_day=last_day()),
        expected_output="The script, in one ```python block.",
        agent=writer,
        context=[parse],
    )
    execute = Task(
        description=EXECUTE,
        expected_output="Two or three sentences for the user.",
        agent=executor,
        context=[write],
    )

    def task_done(output: TaskOutput) -> None:
        if output.description == parse.description:
            report(Progress(1, f"query parsed: {understood(output)}"))
        elif output.description == write.description:
            report(Progress(2, f"script written: {len(unfenced(output.raw).splitlines())} lines"))

    crew = Crew(
        agents=[parser, writer, executor],
        tasks=[parse, write, execute],
        process=Process.sequential,
        task_callback=task_done,
        verbose=False,
    )
    try:
        crew.kickoff()
    except ConnectionError as error:
        advice = "start Ollama, or set ANALYST_STANDIN=1"
        raise AnalysisFailed(f"No model answers at {settings.model_url()}: {advice}.") from error
    assert parse.output and write.output and execute.output
    if tool.best() is None:  # small models sometimes describe a tool call instead of making it
        tool.run(code=write.output.raw)
    script, last_run = tool.best() or ("", None)
    if last_run is None or last_run.png is None:
        raise AnalysisFailed(last_run.report() if last_run else "No script was written.")
    report(Progress(4, "done"))
    text = THOUGHTS.sub("", execute.output.raw).strip()
    return Analysis(text, last_run.png, understood(parse.output), script, last_run.output)


def understood(output: TaskOutput) -> Query:
    """The parsed query, reduced to tickers that we have prices of; raises if none is left."""
    query = output.pydantic
    if not isinstance(query, Query):
        raise NotUnderstood("The request was not understood. Name one or more tickers and a time span.")
    symbols = list(dict.fromkeys(s.upper() for s in query.symbols if s.upper() in COMPANIES))
    if not symbols:
        raise NotUnderstood(f"The request names no ticker that there are prices of: {', '.join(COMPANIES)}.")
    return query.model_copy(update={"symbols": symbols})


def unfenced(text: str) -> str:
    """The code in a model's answer: what stands in its last code block, else all of it, thoughts left out."""
    text = THOUGHTS.sub("", text)
    blocks = FENCE.findall(text)
    return (blocks[-1] if blocks else text).strip() + "\n"


def known_tickers() -> str:
    return "\n".join(f"- {symbol}: {names}" for symbol, names in COMPANIES.items())


def last_day() -> str:
    with PRICES.open(newline="", encoding="utf-8") as file:
        return max(row["date"] for row in csv.DictReader(file))
