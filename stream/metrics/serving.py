"""How metrics are served: by a small server of their own, or as a route of the page's."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from prometheus_client import start_http_server
from prometheus_client.exposition import choose_encoder

from stream.metrics.address import PATH

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from stream.metrics.address import MetricsAddress


class MetricsServer:
    """Serves a registry by HTTP, from threads of its own. `start` and `stop` block; each waits for the other.

    What was stopped does not start any more: a run may be cancelled while a thread of its starts the server.
    """

    def __init__(self, address: MetricsAddress, registry: CollectorRegistry) -> None:
        self._address = address
        self._registry = registry
        self._running: tuple[WSGIServer, threading.Thread] | None = None
        self._changing = threading.Lock()
        self._is_over = False

    @property
    def url(self) -> str:
        """Where it is served."""
        running = self._running
        return self._address.at(self._address.port if running is None else running[0].server_port)

    def start(self) -> None:
        """Raises UserError where the address cannot be listened at."""
        address = self._address
        with self._changing:
            if self._is_over:
                return
            try:
                self._running = start_http_server(address.port, address.host, self._registry)
            except OSError as error:
                raise address.refused(error.strerror or str(error)) from None

    def stop(self) -> None:
        """Ends it; may be called without a start."""
        with self._changing:
            self._is_over = True
            if self._running is not None:
                server, thread = self._running
                server.shutdown()
                server.server_close()
                thread.join()
                self._running = None


def metrics_route(registry: CollectorRegistry, path: str = PATH) -> Route:
    """A Starlette route that gives a registry's metrics, to be mounted beside others (the page's)."""
    from starlette.responses import Response
    from starlette.routing import Route

    async def give(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await asyncio.to_thread(encode, registry), headers={"Content-Type": content_type})

    return Route(path, give, methods=["GET"])
