"""The counters as Prometheus' text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..control import AgentInfo
from ..metrics import BOUNDS, Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(metrics: Metrics, agents: Sequence[AgentInfo], only: frozenset[str] | None = None) -> bytes:
    """All metrics, in a registry of their own. ``only``: of calls, those of these agents (None: all)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, agents, only))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, metrics: Metrics, agents: Sequence[AgentInfo], only: frozenset[str] | None) -> None:
        self._metrics = metrics
        self._agents = agents
        self._only = only

    def collect(self) -> Iterable[Metric]:
        yield from self._calls()
        answers = CounterMetricFamily(
            "agentgw_http_responses", "HTTP requests answered.", labels=["door", "status"]
        )
        for labels, count in self._metrics.responses.items():
            answers.add_metric(labels, count)
        yield answers
        health = GaugeMetricFamily("agentgw_agents", "Registered agents by health.", labels=["health"])
        states = Counter(a.health if a.enabled else "disabled" for a in self._agents)
        for state in ("ok", "degraded", "down", "unknown", "needs-auth", "disabled"):
            health.add_metric([state], states[state])
        yield health
        circuits = GaugeMetricFamily(
            "agentgw_circuit_open", "Agents that are left alone, for they can't be reached.", labels=["agent"]
        )
        for agent in self._agents:
            circuits.add_metric([agent.name], 0 if agent.circuit == "closed" else 1)
        yield circuits
        for name, (text, read) in self._metrics.gauges.items():
            yield GaugeMetricFamily(f"agentgw_{name}", text, value=read())

    def _calls(self) -> Iterator[Metric]:
        labels = ["door", "agent", "outcome"]
        seconds = HistogramMetricFamily(
            "agentgw_call_duration_seconds", "Calls of agents, by how long they took.", labels=labels
        )
        for key, histogram in self._metrics.calls.items():
            if self._only is not None and key[1] not in self._only:
                continue
            buckets: list[tuple[str, float]] = []
            sofar = 0
            for bound, count in zip([*map(str, BOUNDS), "+Inf"], histogram.counts, strict=True):
                sofar += count
                buckets.append((bound, sofar))
            seconds.add_metric(key, buckets, histogram.total)
        yield seconds
