"""Twilio's messages: made, read, listed, redacted, cancelled, deleted, and moved on by a test."""

from __future__ import annotations

import itertools
from email.utils import formatdate
from typing import Any
from urllib.parse import urlencode

JsonObject = dict[str, Any]
Form = dict[str, list[str]]

API_VERSION = "2010-04-01"
STATUSES = frozenset(
    {
        *("accepted", "scheduled", "canceled", "queued", "sending", "sent"),
        *("delivered", "undelivered", "failed", "read", "partially_delivered"),
    }
)
_UNFINISHED = frozenset({"accepted", "scheduled", "queued", "sending"})
_SEGMENT_CHARACTERS = 160
_PAGE_MAX = 1000


class TwilioError(Exception):
    """A refusal in Twilio's shape."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: JsonObject = {
            "code": code,
            "message": message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        }


class Messages:
    """The messages of one account, the oldest first."""

    def __init__(self, account_sid: str, currency: str = "USD") -> None:
        self._account_sid = account_sid
        self._currency = currency
        self._by_sid: dict[str, JsonObject] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """How many messages there are."""
        return len(self._by_sid)

    def create(self, form: Form) -> JsonObject:
        """Make a message. It has no price: Twilio knows it only once it was sent."""
        to, sender, service = (_one(form, name) for name in ("To", "From", "MessagingServiceSid"))
        if not to:
            raise TwilioError(400, 21604, "A 'To' phone number is required.")
        if not to.startswith("+"):
            raise TwilioError(400, 21211, f"Invalid 'To' Phone Number: {to}")
        if not sender and not service:
            raise TwilioError(400, 21603, "A 'From' phone number is required.")
        media = form.get("MediaUrl", [])
        if not _one(form, "Body") and not media and not _one(form, "ContentSid"):
            raise TwilioError(400, 21602, "Message body is required.")
        scheduled = _one(form, "ScheduleType") == "fixed"
        if scheduled and not service:
            raise TwilioError(400, 35118, "MessagingServiceSid is required to schedule a message")
        sid = f"{'MM' if media else 'SM'}{next(self._numbers):032x}"
        # With a messaging service the sender, and with it the segments, are found later.
        status = "scheduled" if scheduled else "accepted" if service else "queued"
        body = _one(form, "Body")
        now, uri = formatdate(usegmt=True), self._uri(sid)
        self._by_sid[sid] = {
            "account_sid": self._account_sid,
            "api_version": API_VERSION,
            "body": body,
            "date_created": now,
            "date_sent": None,
            "date_updated": now,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": sender or None,
            "messaging_service_sid": service or None,
            "num_media": str(len(media)),
            "num_segments": "0" if service else str(max(1, -(-len(body) // _SEGMENT_CHARACTERS))),
            "price": None,
            "price_unit": self._currency,
            "sid": sid,
            "status": status,
            "subresource_uris": {"media": uri.replace(".json", "/Media.json")},
            "to": to,
            "uri": uri,
        }
        return self._by_sid[sid]

    def fetch(self, sid: str) -> JsonObject:
        """Return a message."""
        message = self._by_sid.get(sid)
        if message is None:
            raise TwilioError(404, 20404, f"The requested resource {self._uri(sid)} was not found")
        return message

    def list(self, query: Form) -> JsonObject:
        """Return a page of messages, the newest first."""
        size, page = int(_one(query, "PageSize") or 50), int(_one(query, "Page") or 0)
        if not 1 <= size <= _PAGE_MAX:
            raise TwilioError(400, 20006, "PageSize must be from 1 to 1000")
        wanted = {"to": _one(query, "To"), "from": _one(query, "From")}
        found = [
            message
            for message in reversed(self._by_sid.values())
            if all(not value or message[name] == value for name, value in wanted.items())
        ]
        start = page * size
        more = urlencode({"PageSize": size, "Page": page + 1, "PageToken": "PASM"})
        return {
            "messages": found[start : start + size],
            "page": page,
            "page_size": size,
            "next_page_uri": f"{self._uri()}?{more}" if start + size < len(found) else None,
            "uri": self._uri(),
        }

    def update(self, sid: str, form: Form) -> JsonObject:
        """Redact a message, or cancel one that is not sent yet."""
        message = self.fetch(sid)
        if "Status" in form:
            if _one(form, "Status") != "canceled" or message["status"] not in _UNFINISHED:
                raise TwilioError(400, 30409, "This message cannot be canceled")
            message["status"] = "canceled"
        if "Body" in form:
            if _one(form, "Body"):
                raise TwilioError(400, 20001, "Body may only be set to an empty string")
            message["body"] = ""
        message["date_updated"] = formatdate(usegmt=True)
        return message

    def delete(self, sid: str) -> None:
        """Forget a message that is at its end."""
        if self.fetch(sid)["status"] in _UNFINISHED:
            raise TwilioError(409, 20009, "Cannot delete this resource before it is complete")
        del self._by_sid[sid]

    def move(self, sid: str, changes: JsonObject) -> JsonObject:
        """Bring a message to a state, or let its price appear: what happens at Twilio by itself."""
        message = self.fetch(sid)
        unknown = changes.keys() - {"status", "price", "num_segments", "error_code"}
        if unknown or changes.get("status", "sent") not in STATUSES:
            raise TwilioError(400, 20001, f"a message can't be moved by {changes}")
        if changes.get("status") in {"sent", "delivered"} and message["date_sent"] is None:
            message["date_sent"] = formatdate(usegmt=True)
        message.update(changes)
        return message

    def _uri(self, sid: str = "") -> str:
        return f"/{API_VERSION}/Accounts/{self._account_sid}/Messages{f'/{sid}' if sid else ''}.json"


def _one(form: Form, name: str) -> str:
    """The last value of a parameter, as Twilio reads a repeated one; empty when it is not given."""
    return form.get(name, [""])[-1]
