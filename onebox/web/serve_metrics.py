"""Counts for Prometheus: requests by address and status, pictures by outcome, batches, the queue, the process. Takes
what the service tells it, gives the text of /metrics; knows no client and no file name.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Text format 0.0.4, which every Prometheus reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """One service's figures, in a registry of their own."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("onebox_requests", "Requests answered.", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "onebox_request_seconds", "From the head of a request to the end of its answer.", ["route"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.pictures = Counter("onebox_pictures", "Pictures by outcome.", ["outcome"], registry=self._registry)
        self.batches = Histogram(
            "onebox_batch_pictures", "Pictures run through the network at once.", buckets=(1, 2, 3, 4, 6, 8),
            registry=self._registry,
        )  # fmt: skip
        self.good = self.pictures.labels("answered")
        self.bad = self.pictures.labels("unreadable")
        Gauge("onebox_waiting_pictures", "Pictures in the queue.", registry=self._registry).set_function(waiting)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """ASGI: counts what passes. A route is one of `routes`, or "other": a client cannot make up new ones."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_watched)
        finally:
            route = _route(scope, self._routes)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _route(scope: Scope, routes: frozenset[str]) -> str:
    path: str = scope["path"]
    if path in routes:
        return path
    template = getattr(scope.get("route"), "path", "other")
    return template if template in routes else "other"
