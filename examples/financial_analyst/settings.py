"""Where the language model is, from the environment; and quiet, private manners for crewai.

Import this before crewai: it decides about telemetry and storage while it is imported.

ANALYST_MODEL       the model as crewai names it           (ollama/qwen2.5-coder:7b)
OLLAMA_BASE_URL     where Ollama, or what stands in, is    (http://localhost:11434)
ANALYST_STANDIN     1: start the stand-in model in this process instead
ANALYST_TIME_LIMIT  seconds that a written script may run  (30)
ANALYST_CODE_TOOLS  1: the MCP server also offers save_code and run_code_and_show_plot
"""

import atexit
import os
import shutil
import tempfile
import warnings
from functools import cache

import stand_in_llm

MODEL = os.environ.get("ANALYST_MODEL", "ollama/qwen2.5-coder:7b")
OLLAMA = os.environ.get("OLLAMA_BASE_URL", "http://localhost:11434")
STAND_IN = os.environ.get("ANALYST_STANDIN") == "1"
TIME_LIMIT = float(os.environ.get("ANALYST_TIME_LIMIT", "30"))
CODE_TOOLS = os.environ.get("ANALYST_CODE_TOOLS") == "1"


@cache
def model_url() -> str:
    """The base URL of the language model; starts the stand-in if the environment asks for it."""
    return stand_in_llm.start() if STAND_IN else OLLAMA


def quiet_crewai() -> None:
    """No telemetry, no traces, no questions at the terminal; its records go when this process ends."""
    os.environ["CREWAI_DISABLE_TELEMETRY"] = "true"
    os.environ["CREWAI_TRACING_ENABLED"] = "false"
    os.environ["OTEL_SDK_DISABLED"] = "true"
    if "CREWAI_STORAGE_DIR" not in os.environ:
        records = os.environ["CREWAI_STORAGE_DIR"] = tempfile.mkdtemp(prefix="analyst-crewai-")
        atexit.register(shutil.rmtree, records, ignore_errors=True)
    warnings.filterwarnings("ignore", message="function callbacks cannot be serialized")
