"""What one process of a gateway counts, and how Prometheus reads it.

`Metrics` holds what only this process saw; `exposition` adds what the database and the node say at the moment of the
scrape. Every name begins with `idml_gateway_`.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.alarms import Alarm, AlarmKind
from gateway.standing import Standing
from gateway.watch import Watched

_NAMESPACE = "idml_gateway"
_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ATTEMPTS = (1, 2, 3, 5, 8, 13, 21)
_CALLS = (1, 2, 5, 10, 20, 30, 40, 50)
_DEPTHS = (1, 2, 3, 5, 10, 20, 40)


class Metrics:
    """Counters of one process. Safe to share between threads.

    Attributes:
        reorg_depth: blocks that each reorganisation took back; its count is the number of reorganisations.
        attempts: transactions it took until each submission was in a block.
        batch_calls: calls in each batch composed here.
        at_the_cap: how often an offer could not be raised, since it is at the cap.
        node_errors: requests to the node without a useful answer, by `gateway.node_requests.NodeFault`.
        node_latency: seconds the node took, by method.
        http_latency: seconds the gateway took, by method, route and status; its count is the number of requests.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reorg_depth = self._histogram("reorg_depth_blocks", "Blocks a reorganisation took back", _DEPTHS)
        self.attempts = self._histogram("attempts_per_inclusion", "Attempts until a submission was mined", _ATTEMPTS)
        self.batch_calls = self._histogram("batch_calls", "Calls in a composed batch", _CALLS)
        self.at_the_cap = Counter(
            "at_fee_cap", "Offers that could not be raised", namespace=_NAMESPACE, registry=self.registry
        )
        self.node_errors = Counter(
            "node_errors",
            "Requests to the node without a useful answer",
            ["fault"],
            namespace=_NAMESPACE,
            registry=self.registry,
        )
        self.node_latency = self._histogram("node_request_seconds", "Time the node took", _LATENCY_S, "method")
        self.http_latency = self._histogram(
            "http_request_seconds", "Time a request took", _LATENCY_S, "method", "route", "status"
        )
        build = Info("build", "What runs here", namespace=_NAMESPACE, registry=self.registry)
        build.info({"version": version("idml"), "python": platform.python_version()})

    def reorgs(self) -> int:
        """Return how many reorganisations this process saw."""
        return int(self.registry.get_sample_value(f"{_NAMESPACE}_reorg_depth_blocks_count") or 0)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, words, labels, namespace=_NAMESPACE, buckets=buckets, registry=self.registry)


def exposition(
    metrics: Metrics, standing: Standing | None, watched: Watched | None, *, alarms: Sequence[Alarm] = (), now_s: float
) -> bytes:
    """Return everything in Prometheus' text format.

    Args:
        metrics: of this process.
        standing: what the database says, None if it does not answer.
        watched: what is known of the node and the models, None while nothing is.
        alarms: what is wrong.
        now_s: wall clock, Unix seconds.
    """
    registry = CollectorRegistry()
    registry.register(_Gauges(standing, watched, alarms, now_s))
    return generate_latest(metrics.registry) + generate_latest(registry)


class _Gauges(Collector):
    def __init__(
        self, standing: Standing | None, watched: Watched | None, alarms: Sequence[Alarm], now_s: float
    ) -> None:
        self._alarms = alarms
        self._standing = standing
        self._watched = watched
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        raised = {one.kind for one in self._alarms}
        alarm = GaugeMetricFamily(f"{_NAMESPACE}_alarm", "1 while something of this kind is wrong", labels=["kind"])
        for kind in AlarmKind:
            alarm.add_metric([kind.value], float(kind in raised))
        yield alarm
        yield _gauge("store_up", "Whether the database answered", self._standing is not None)
        if self._standing is not None:
            yield from self._of_store(self._standing)
        yield _gauge(
            "node_up", "Whether the node answered when last asked", bool(self._watched and not self._watched.fault)
        )
        if self._watched is not None:
            yield from self._of_node(self._watched)

    def _of_store(self, standing: Standing) -> Iterator[Metric]:
        states = GaugeMetricFamily(f"{_NAMESPACE}_submissions", "Submissions by state", labels=["state"])
        for state, count in standing.submissions.items():
            states.add_metric([state], count)
        yield states
        yield _gauge(
            "oldest_unsettled_seconds", "Age of the oldest submission not settled", standing.oldest_unsettled_s
        )
        yield _gauge("operations_waiting", "Operations that no batch carries", standing.operations_waiting)
        yield _gauge("oldest_operation_seconds", "Age of the oldest operation waiting", standing.oldest_operation_s)
        yield _gauge("store_bytes", "Size of the database", standing.store_bytes)
        if standing.head is not None:
            yield _gauge("head_block", "Newest block consumed", standing.head.number)
            yield _gauge("head_age_seconds", "Age of the newest block consumed", self._now_s - standing.head.time_s)

    def _of_node(self, watched: Watched) -> Iterator[Metric]:
        yield _gauge("model_bytes", "Size of the models kept", watched.model_bytes)
        yield _gauge("models", "Models kept", watched.models)
        yield _gauge("node_asked_age_seconds", "How long ago the node last answered", self._now_s - watched.at_s)
        if watched.facts is not None:
            facts = watched.facts
            yield _gauge("node_height", "Newest block of the node", facts.height)
            yield _gauge("operator_balance_wei", "Native coin of the operator", facts.operator_wei)
            yield _gauge("finality_lag_blocks", "Blocks above the newest final one", facts.height - facts.final_height)
            if self._standing is not None:
                lag_s = self._standing.lag_s(facts.final_height)
                if lag_s is not None:
                    yield _gauge("finality_lag_seconds", "Chain time from the newest final block to the head", lag_s)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_NAMESPACE}_{name}", words, value=value)
