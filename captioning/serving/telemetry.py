"""Figures for Prometheus, and one line of JSON per request. Neither holds a picture, a caption or what people wrote."""

import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

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
        self.queue = prometheus.Gauge("captioning_queue", "Pictures that wait or are captioned", registry=registry)
        self.loaded = prometheus.Gauge("captioning_captioners_loaded", "Captioners in memory", registry=registry)

    def tell(self, told: "Told") -> None:
        """Counts a request that is over, and writes its line."""
        record = told.record()
        self._requests.labels(told.route, told.method, str(told.status)).inc()
        self._seconds.labels(told.route).observe(record["ms"] / 1000)
        if told.status >= 400:
            self._refusals.labels(told.outcome).inc()
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
