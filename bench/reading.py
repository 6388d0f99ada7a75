"""Measures what the sidecar does with a request before it asks anybody: match, read strictly, price.

``python -m bench.reading``; prints CPU time beside the bare parse of the same body.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import parse_qsl

from rich.console import Console
from rich.table import Table

from sidecar.exchange import Request
from sidecar.stripe.endpoints import ENDPOINTS, Endpoint
from sidecar.stripe.table import EndpointTable
from sidecar.stripe.vendor import Stripe

CHARGE = (
    b"amount=100&currency=usd&source=tok_visa&description=An+order+of+the+usual+size"
    b"&metadata[order]=0123456789"
)
HEADERS = {
    b"content-type": [b"application/x-www-form-urlencoded"],
    b"authorization": [b"Bearer vk_"],
    b"spendgate-run-id": [b"run-1"],
    b"user-agent": [b"Stripe/v1 PythonBindings/16.1.0"],
}
ROUNDS = 20_000
FLOOR_US = 60


def cpu_us(work: Callable[[], object]) -> float:
    """Return the CPU time of one call in microseconds."""
    for _ in range(ROUNDS // 10):
        work()
    begun = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - begun) / ROUNDS * 1e6


def measure() -> dict[str, float]:
    """Return what each part takes."""
    stripe = Stripe()
    request = Request("POST", "/v1/charges", "", HEADERS, CHARGE)
    text = CHARGE.decode()
    table = EndpointTable()
    last = ENDPOINTS[-1]
    many = EndpointTable(
        (*ENDPOINTS, *(Endpoint("POST", f"/v1/resource_{n}/{{id}}/act") for n in range(10_000)))
    )
    return {
        "bare parse of the body (urllib)": cpu_us(lambda: parse_qsl(text, strict_parsing=True)),
        "match, strict reading and price of a charge": cpu_us(lambda: stripe.read(request)),
        "match of the first endpoint": cpu_us(lambda: table.find("POST", "/v1/charges")),
        f"match of the last of {len(ENDPOINTS)}": cpu_us(lambda: table.find(last.method, last.template)),
        "match of one more after 10,000": cpu_us(lambda: many.find("POST", "/v1/resource_9999/id_1/act")),
    }


def main() -> None:
    """Print the figures."""
    table = Table(title=f"Before anybody is asked; the floor is {FLOOR_US} µs for the second row")
    table.add_column("what")
    table.add_column("CPU µs", justify="right")
    for what, took in measure().items():
        table.add_row(what, f"{took:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
