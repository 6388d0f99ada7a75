"""The v2 endpoints, and the fields each of them knows."""

from __future__ import annotations

from stripe_simulator.routing import Routes
from stripe_simulator.v2 import event_destinations, outbound


def add_to(routes: Routes) -> None:
    fields = "amount description from metadata statement_descriptor to "
    verified = "delivery_options recipient_notification recipient_verification"
    created = {
        "outbound_payments": (outbound.create_payment, fields + verified),
        "outbound_transfers": (outbound.create_transfer, fields + "delivery_options"),
    }
    for name, (create, known) in created.items():
        path, kind = f"money_management/{name}", f"v2.money_management.{name[:-1]}"
        routes.serve_v2("POST", path, create, kind, known)
        routes.serve_v2("GET", path, outbound.list_outbound, kind, "created limit page recipient status")
        routes.serve_v2("GET", f"{path}/*", outbound.retrieve, kind)
        routes.serve_v2("POST", f"{path}/*/cancel", outbound.cancel, kind)
    path, kind = "core/event_destinations", "v2.core.event_destination"
    known = "description enabled_events event_payload include metadata name type webhook_endpoint"
    routes.serve_v2("POST", path, event_destinations.create, kind, known)
    routes.serve_v2("GET", path, event_destinations.list_destinations, kind, "include limit page")
    routes.serve_v2("GET", f"{path}/*", event_destinations.retrieve, kind, "include")
    routes.serve_v2("DELETE", f"{path}/*", event_destinations.delete, kind)
