"""The configuration: the shipped file is the defaults, and what is wrong is said in one clear line."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import agentgw
from agentgw.gateway import config_file
from agentgw.gateway.config import AgentEntry, Config
from agentgw.gateway.errors import ConfigError

DEFAULTS = Path(agentgw.__file__).parent / "config.toml"


def load(text: str, tmp_path: Path, **environ: str) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(text)
    config, warnings = config_file.load(path, environ)
    assert warnings == []
    return config


# --- the shipped file -----------------------------------------------------------------------------


def test_the_shipped_file_is_the_defaults():
    assert config_file.load(DEFAULTS, {}) == (Config(), [])


def test_the_shipped_file_has_every_key_with_a_comment():
    tree = tomllib.loads(DEFAULTS.read_text())
    shipped = {f"{section}.{key}" for section, table in tree.items() for key in table}
    assert shipped == {key for key in config_file.setting_paths() if not key.startswith("agents.")}
    settings = [line for line in DEFAULTS.read_text().splitlines() if " = " in line]
    assert all("#" in line for line in settings)
    for key in config_file.setting_paths():
        assert f"{key.rpartition('.')[2]} = " in DEFAULTS.read_text(), key


def test_the_shipped_file_is_part_of_the_package():
    assert files("agentgw").joinpath("config.toml").is_file()


def test_no_file_and_no_environment_is_the_defaults():
    assert config_file.load(None, {}) == (Config(), [])


# --- what can be written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ('"250ms"', 0.25), ('"5s"', 5), ('"5m"', 300), ('"1h"', 3600), ('"1h30m"', 5400), ('"1.5s"', 1.5),
        ('"2d"', 172800), ('"7"', 7), ("7", 7), ("0.5", 0.5), ('"0s"', 0),
    ],
)  # fmt: skip
def test_durations(text, seconds, tmp_path):
    assert load(f"[limits]\nidle_timeout = {text}", tmp_path).limits.idle_timeout == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('"64KiB"', 65536),
        ('"10MB"', 10_000_000),
        ('"1 GiB"', 2**30),
        ('"512"', 512),
        ("512", 512),
        ('"1k"', 1024),
    ],
)
def test_sizes(text, size, tmp_path):
    assert load(f"[limits]\nbody = {text}", tmp_path).limits.body == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ('"100/s"', 100),
        ('"30/m"', 0.5),
        ('"36 / h"', 0.01),
        ('"0"', 0),
        ('"2.5"', 2.5),
        ("3", 3),
        ('"0/s"', 0),
    ],
)
def test_rates(text, rate, tmp_path):
    assert load(f"[limits]\nrate = {text}", tmp_path).limits.rate == rate


def test_agents_of_the_file(tmp_path):
    config = load(
        """
        [agents.analyst]
        command = ["python", "analyst_server.py"]
        env = { KEY = "${ANALYST_KEY}" }
        [agents.research]
        url = "https://research.example/a2a"
        headers = { Authorization = "Bearer ${RESEARCH_TOKEN}" }
        total_timeout = "2h"
        enabled = false
        """,
        tmp_path,
    )
    assert config.agents == {
        "analyst": AgentEntry(command=("python", "analyst_server.py"), env={"KEY": "${ANALYST_KEY}"}),
        "research": AgentEntry(
            url="https://research.example/a2a",
            headers={"Authorization": "Bearer ${RESEARCH_TOKEN}"},
            total_timeout=7200,
            enabled=False,
        ),
    }


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "read", "expected"),
    [
        ("SERVER__PORT", "9000", lambda c: c.server.port, 9000),
        ("SERVER__HOST", "::1", lambda c: c.server.host, "::1"),
        ("SERVER__HOST", "12", lambda c: c.server.host, "12"),
        ("SERVER__ALLOW_ANONYMOUS", "true", lambda c: c.server.allow_anonymous, True),
        ("LIMITS__IDLE_TIMEOUT", "90s", lambda c: c.limits.idle_timeout, 90),
        ("LIMITS__BODY", "1MiB", lambda c: c.limits.body, 2**20),
        ("LIMITS__TASKS", "5", lambda c: c.limits.tasks, 5),
        ("TRACING__SAMPLING", "0.25", lambda c: c.tracing.sampling, 0.25),
        ("OUTBOUND__ALLOW", '["127.0.0.0/8"]', lambda c: c.outbound.allow, ("127.0.0.0/8",)),
        ("OUTBOUND__ALLOW", "['10.0.0.0/8']", lambda c: c.outbound.allow, ("10.0.0.0/8",)),
        ("AGENTS__MY_BOT__URL", "http://x", lambda c: c.agents["my-bot"].url, "http://x"),
        ("AGENTS__BOT__COMMAND", '["a", "b"]', lambda c: c.agents["bot"].command, ("a", "b")),
        ("AGENTS__BOT__TOTAL_TIMEOUT", "2m", lambda c: c.agents["bot"].total_timeout, 120),
    ],
)
def test_the_environment_sets_any_key(name, value, read, expected):
    environ = {f"AGENTGW_{name}": value}
    if "TOTAL" in name:
        environ["AGENTGW_AGENTS__BOT__URL"] = "http://x"
    config, warnings = config_file.load(None, environ)
    assert read(config) == expected
    assert warnings == []


def test_the_environment_wins_over_the_file(tmp_path):
    text = "[agents.bot]\nurl = 'http://file'\n[server]\nport = 1\nhost = 'file'"
    config = load(text, tmp_path, AGENTGW_SERVER__PORT="2", AGENTGW_AGENTS__BOT__URL="http://env")
    assert (config.server.port, config.server.host) == (2, "file")
    assert config.agents["bot"].url == "http://env"


def test_the_file_may_be_named_by_the_environment(tmp_path):
    (tmp_path / "mine.toml").write_text("[server]\nport = 1234")
    config, _ = config_file.load(None, {"AGENTGW_CONFIG": str(tmp_path / "mine.toml")})
    assert config.server.port == 1234


def test_variables_that_others_inject_are_ignored():
    environ = {
        "AGENTGW_HOME": "/x", "AGENTGW_URL": "http://x", "AGENTGW_TOKEN": "t",
        "AGENTGW_SERVICE_HOST": "10.0.0.1", "AGENTGW_PORT_8080_TCP": "tcp://10.0.0.1:8080", "PATH": "/bin",
    }  # fmt: skip
    assert config_file.load(None, environ) == (Config(), [])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("AGENTGW_SERVER__PROT", "AGENTGW_SERVER__PORT"),
        ("AGENTGW_IDLE__TIMEOUT", "AGENTGW_LIMITS__IDLE_TIMEOUT"),
        ("AGENTGW_SERVER", None),
        ("AGENTGW_AGENTS__BOT", "AGENTGW_"),
        ("AGENTGW_AGENTS__BOT__URLL", "AGENTGW_AGENTS__BOT__URL"),
        ("AGENTGW_AGENTS___BAD__URL", "AGENTGW_"),
    ],
)
def test_an_unknown_variable_warns(name, near):
    config, warnings = config_file.load(None, {name: "1"})
    assert config == Config()
    assert [near in w and name in w for w in warnings] == ([] if near is None else [True])


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[limits]\nidle_timout = 3", "unknown key limits.idle_timout (did you mean limits.idle_timeout?)"),
        ("port = 1", "unknown key port (did you mean server.port?)"),
        ("[servr]\nport = 1", "unknown key servr (did you mean server?)"),
        ("[limts]\nidle_timeout = '1s'", "unknown key limts (did you mean limits?)"),
        ("[agents.bot]\nurll = 'x'", "unknown key agents.bot.urll (did you mean agents.bot.url?)"),
        ("[server]\nport = 'x'", "server.port: Expected `int`, got `str`"),
        ("[server]\nport = 70000", "server.port: Expected `int` <= 65535"),
        ("[server]\npublic_url = 'x.example'", 'server.public_url = "x.example" must begin with http'),
        ("[limits]\nidle_timeout = '5 parsecs'", 'limits.idle_timeout = "5 parsecs" is not a duration'),
        ("[limits]\nidle_timeout = -1", "limits.idle_timeout: Expected `float` >= 0"),
        ("[limits]\nidle_timeout = true", "limits.idle_timeout: Expected `float`, got `bool`"),
        ("[limits]\nbody = 'huge'", 'limits.body = "huge" is not a size'),
        ("[limits]\nrate = 'often'", 'limits.rate = "often" is not a rate like "100/s"'),
        ("[limits]\nrate = '5/d'", 'limits.rate = "5/d" is not a rate'),
        ("[limits]\nrate = -1", "limits.rate: Expected `float` >= 0"),
        ("[tracing]\nsampling = 2", "tracing.sampling: Expected `float` <= 1"),
        ("[outbound]\nallow = ['localhost']", "outbound.allow: 'localhost' does not appear to be"),
        ("limits = 3", "limits must be a table"),
        ("agents = 3", "agents must be a table"),
        ("[agents]\nx = 3", "agents.x must be a table"),
        ("[agents.X_1]\nurl = 'http://a'", "'X_1' can't name an agent"),
        ("[agents.a]\n", "agents.a needs either url or command"),
        ("[agents.a]\nurl = 'http://a'\ncommand = ['b']", "agents.a needs either url or command"),
        ("[agents.a]\nurl = 'ftp://a'", "must begin with http"),
        ("[agents.a]\ncommand = ['b']\nheaders = {A = 'b'}", "headers and remote go with url"),
        ("[agents.a]\nurl = 'http://a'\nenv = {A = 'b'}", "env and cwd go with command"),
        ("[server", "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(text, line, tmp_path):
    with pytest.raises(ConfigError) as error:
        load(text, tmp_path)
    assert line in error.value.message
    assert str(tmp_path / "config.toml") in error.value.message
    assert "\n" not in error.value.message


def test_a_missing_file_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match=r"can't read the configuration .*No such file"):
        config_file.load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER__PORT", "high"),
        ("OUTBOUND__ALLOW", "10.0.0.0/8"),
        ("LIMITS__BODY", "big"),
        ("SERVER__PORT", "-1"),
    ],
)
def test_a_variable_with_an_unfit_value_is_named(name, value):
    with pytest.raises(ConfigError, match=f"AGENTGW_{name}"):
        config_file.load(None, {f"AGENTGW_{name}": value})
