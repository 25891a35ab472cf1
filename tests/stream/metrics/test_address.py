"""Where metrics may be served, and what is said of anything else."""

from __future__ import annotations

import pytest

from models.errors import UserError
from stream.metrics.address import MetricsAddress, check_metrics


@pytest.mark.parametrize(
    ("text", "host", "port", "url"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464, "http://127.0.0.1:9464/metrics"),
        ("9464", "127.0.0.1", 9464, "http://127.0.0.1:9464/metrics"),
        ("192.0.2.7:1", "192.0.2.7", 1, "http://192.0.2.7:1/metrics"),
        ("[::1]:9464", "::1", 9464, "http://[::1]:9464/metrics"),
        (" robot.local:80 ", "robot.local", 80, "http://robot.local:80/metrics"),
    ],
)
def test_an_address_is_this_machine_unless_it_names_another(
    text: str, host: str, port: int, url: str
) -> None:
    address = MetricsAddress.parse(text)
    assert (address.host, address.port) == (host, port)
    assert address.at(port) == url


@pytest.mark.parametrize(
    "text", ["", "host", ":", "host:", "host:99999", "::1:80", "http://host:80", "a b:1"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="no address for metrics: give one such as"):
        check_metrics(text)
