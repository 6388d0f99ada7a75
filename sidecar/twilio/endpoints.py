"""What can be called of Twilio, and with which parameters.

Nothing else is passed on, reads included: the account that Twilio shows at
``/Accounts/{sid}.json`` has the auth token in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERSION = "/2010-04-01"

_NAME = f"/twilio{VERSION}/Accounts/{{account}}/Messages"
_PATH = re.compile(
    rf"{VERSION}/Accounts/([A-Za-z0-9_]{{1,64}})/Messages(?:/((?:SM|MM)[0-9a-fA-F]{{32}}))?\.json"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be called."""

    method: str
    name: str
    """Method and path as policies see them; they begin with the vendor, so that a limit can be on it."""
    parameters: frozenset[str]
    """What it takes, spelled exactly so."""
    lists: frozenset[str] = frozenset()
    """Which of its parameters may be given several times."""
    private: frozenset[str] = frozenset()
    """Which of its parameters the policy does not get to see."""
    sends: bool = False
    """Whether it sends a message, which costs money."""


CREATE = Endpoint(
    "POST",
    f"POST {_NAME}.json",
    frozenset(
        {
            *("To", "From", "FallbackFrom", "MessagingServiceSid"),
            *("Body", "MediaUrl", "ContentSid", "ContentVariables", "PersistentAction"),
            *("ScheduleType", "SendAt", "SendAsMms", "ValidityPeriod", "Attempt", "MaxPrice"),
            *("StatusCallback", "ApplicationSid", "ProvideFeedback", "ForceDelivery"),
            *("SmartEncoded", "ShortenUrls", "TrafficType", "MessageIntent", "RiskCheck"),
            *("ContentRetention", "AddressRetention"),
        }
    ),
    lists=frozenset({"MediaUrl", "PersistentAction"}),
    private=frozenset({"Body", "ContentVariables"}),
    sends=True,
)
UPDATE = Endpoint("POST", f"POST {_NAME}/{{message}}", frozenset({"Body", "Status"}), private=CREATE.private)
DELETE = Endpoint("DELETE", f"DELETE {_NAME}/{{message}}", frozenset())
FETCH = Endpoint("GET", f"GET {_NAME}/{{message}}", frozenset())
LIST = Endpoint(
    "GET",
    f"GET {_NAME}.json",
    frozenset({"To", "From", "DateSent", "DateSent<", "DateSent>", "PageSize", "Page", "PageToken"}),
)

ENDPOINTS = (CREATE, UPDATE, DELETE, FETCH, LIST)
"""Everything of Twilio that can be called."""

_BY_KIND = {(one.method, "{message}" in one.name): one for one in ENDPOINTS}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    endpoint: Endpoint
    account: str
    message: str
    """Sid of the message; empty where the path names none."""


def find(method: str, path: str) -> Target | None:
    """Return what a raw path names; None when Spendgate does not know it."""
    match = _PATH.fullmatch(path)
    endpoint = _BY_KIND.get((method, match[2] is not None)) if match else None
    return Target(endpoint, match[1], match[2] or "") if match and endpoint else None
