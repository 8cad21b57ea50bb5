"""What is counted of a service, in Prometheus's text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """Counts of one service; they start at 0 with it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "hornet_requests", "Requests that were answered.", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "hornet_predict_seconds",
            "Seconds from a request to the answer for its picture.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "hornet_batch_pictures",
            "Pictures that went through the model at once.",
            buckets=_PICTURES,
            registry=self._registry,
        )
        self.open = Gauge(
            "hornet_open_requests", "Requests that are read or wait for the model.", registry=self._registry
        )
        ProcessCollector(registry=self._registry)  # memory, processor time, open files

    def request(self, path: str, status: int) -> None:
        """A request was answered. `path`: one of the service's own, else what strangers ask for is kept."""
        self._requests.labels(path, str(status)).inc()

    def predicted(self, seconds: float) -> None:
        """A picture was answered for."""
        self._seconds.observe(seconds)

    def batch(self, pictures: int) -> None:
        """Pictures went through the model at once."""
        self._batches.observe(pictures)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
