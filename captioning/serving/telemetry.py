"""Figures for Prometheus, and one line of JSON per request. Neither holds a picture, a caption or what people wrote."""

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from captioning.errors import CaptioningError, MissingExtra

if TYPE_CHECKING:
    from captioning.inference.caption import Caption
    from captioning.serving.gate import Told

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Telemetry:
    """The figures of one service; `log` is where its lines go, None: nowhere."""

    def __init__(self, log: TextIO | None = None) -> None:
        import prometheus_client as prometheus

        self._log, self._lock = log, threading.Lock()
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.disable_created_metrics()
        prometheus.ProcessCollector(registry=registry)
        self._requests = prometheus.Counter(
            "captioning_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self._refusals = prometheus.Counter(
            "captioning_refusals", "Requests refused, by code", ("code",), registry=registry
        )
        self._seconds = prometheus.Histogram(
            "captioning_request_seconds", "Time of a request", ("route",), buckets=SECONDS, registry=registry
        )
        self._batch = prometheus.Histogram(
            "captioning_batch_size", "Pictures captioned together", buckets=SIZES, registry=registry
        )
        self._cached = prometheus.Counter(
            "captioning_cache_hits", "Pictures answered from the cache", registry=registry
        )
        self._confidence = prometheus.Histogram(
            "captioning_confidence", "Confidence of captions", ("captioner",), buckets=TENTHS, registry=registry
        )
        self._captions = prometheus.Counter(
            "captioning_captions", "Captions by verdict", ("captioner", "verdict"), registry=registry
        )
        self._failures = prometheus.Counter("captioning_failures", "Requests that failed here", registry=registry)

    def watch(self, *, queue: Callable[[], float], loaded: Callable[[], float], jobs: Callable[[], float]) -> None:
        """Figures that are read when they are asked for."""
        from prometheus_client import Gauge

        for name, told, value in (
            ("captioning_queue", "Pictures that wait or are captioned", queue),
            ("captioning_captioners_loaded", "Captioners in memory", loaded),
            ("captioning_job_pictures", "Pictures of jobs that wait", jobs),
        ):
            Gauge(name, told, registry=self.registry).set_function(value)

    def failed(self, error: Exception, request_id: str) -> None:
        """Counts a failure of the service itself, and tells Sentry where it is in use."""
        self._failures.inc()
        if "sentry_sdk" in sys.modules:
            import sentry_sdk

            with sentry_sdk.new_scope() as scope:
                scope.set_tag("request_id", request_id)
                sentry_sdk.capture_exception(error)

    def tell(self, told: "Told") -> None:
        """Counts a request that is over, and writes its line."""
        record = told.record()
        self._requests.labels(told.route, told.method, str(told.status)).inc()
        self._seconds.labels(told.route).observe(record["ms"] / 1000)
        if told.status >= 400:
            self._refusals.labels(record["outcome"]).inc()
        if self._log:
            line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **record})
            with self._lock:
                self._log.write(line + "\n")
                self._log.flush()

    def captioned(self, captioner: str, caption: "Caption") -> None:
        """Counts a caption by its verdict and confidence."""
        self._captions.labels(captioner, caption.verdict).inc()
        if caption.confidence is not None:
            self._confidence.labels(captioner).observe(caption.confidence)

    def seen(self, event: str, value: float) -> None:
        """Counts what a batcher tells."""
        if event == "batch":
            self._batch.observe(value)
        else:
            self._cached.inc(value)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


def start_sentry(dsn: str, **settings: Any) -> None:
    """Reports failures to Sentry: the kind of error and the lines of code, and nothing that was sent."""
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ImportError:
        raise MissingExtra("Sentry is not installed; install it: pip install sentry-sdk.") from None
    quiet: dict[str, Any] = {"default_integrations": False, "max_request_body_size": "never"}
    try:
        sentry_sdk.init(
            dsn, **quiet, include_local_variables=False, max_breadcrumbs=0, before_send=scrubbed, **settings
        )
    except BadDsn:
        raise CaptioningError("The address of --sentry is no DSN; copy it from the project's settings.") from None


def scrubbed(event: Any, hint: Any) -> Any:
    """An event of Sentry's without messages, values, paths of this machine and names of computers."""
    kept: dict[str, Any] = {
        name: event[name] for name in ("event_id", "timestamp", "platform", "level", "tags") if name in event
    }
    failures = []
    for each in event.get("exception", {}).get("values", ()):
        frames = each.get("stacktrace", {}).get("frames", ())
        places = [{name: frame.get(name) for name in ("filename", "function", "lineno", "module")} for frame in frames]
        failures.append({"type": each.get("type"), "value": "", "stacktrace": {"frames": places}})
    return kept | {"exception": {"values": failures}}
