"""Makes an account's ledger anew from its audit events.

Every event carries the new values of all fields that its script changed, as
``images``: by key, without the account's prefix, a field's value, or false when
the field is gone. Two fields are special: '' is the time in ms when the key
goes, 0 for never, and '!' says that what the key held before is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from policy_server.store.keys import UNKNOWN_FROM

_GOES_AT = ""
_BEGINS_ANEW = "!"

HOLD = "hold:"
KEY_IDS = "keys"
SORTED_SETS = (KEY_IDS, "frozen-runs")


@dataclass(slots=True)
class Image:
    """What one Redis key holds: the fields of a hash, or the members of a sorted set with their scores."""

    fields: dict[str, str] = field(default_factory=dict)
    goes_at_ms: int = 0
    """0 when it stays for ever."""


class Ledger:
    """An account's ledger as its events tell it; ``keys`` are named without the account's prefix."""

    def __init__(self) -> None:
        self.sequence = 0
        self.tip = ""
        self.keys: dict[str, Image] = {}

    def apply(self, sequence: int, event: Mapping[str, str]) -> None:
        """Bring the ledger to what it was after one event; they come in order."""
        self.sequence, self.tip = sequence, event.get("tip", "")
        images = event.get("images")
        if images is None:
            return
        now_ms = int(event["time"])
        for name, changes in json.loads(images).items():
            self._change(name, changes, now_ms)
            if name.startswith(HOLD) and "held_at" in changes:
                # The event is about the call that was held for; it says it once.
                self.keys[name].fields["call"] = event["call"]

    def _change(self, name: str, changes: dict[str, str | bool], now_ms: int) -> None:
        image = self.keys.get(name)
        gone = image is not None and 0 < image.goes_at_ms < now_ms
        if image is None or gone or _BEGINS_ANEW in changes:
            image = self.keys[name] = Image()
        for name_of_field, value in changes.items():
            if name_of_field == _GOES_AT:
                image.goes_at_ms = int(value)
            elif value is False:
                image.fields.pop(name_of_field, None)
            elif name_of_field != _BEGINS_ANEW:
                image.fields[name_of_field] = str(value)

    def forget_gone(self, now_ms: int) -> None:
        """Drop what has nothing left in it, and keys whose time has passed."""
        self.keys = {
            name: image
            for name, image in self.keys.items()
            if image.fields and not 0 < image.goes_at_ms <= now_ms
        }

    @property
    def key_ids(self) -> list[str]:
        """The ids of the account's vault keys."""
        return list(self.keys[KEY_IDS].fields) if KEY_IDS in self.keys else []

    @property
    def deadlines(self) -> dict[str, int]:
        """Holds without an outcome by authorization id, with their scores."""
        found = {}
        for name, image in self.keys.items():
            if name.startswith(HOLD) and image.fields["state"] == "held":
                found[name.removeprefix(HOLD)] = int(image.fields["deadline"])
            elif name.startswith(HOLD) and image.fields["state"] == "unknown":
                found[name.removeprefix(HOLD)] = UNKNOWN_FROM + int(image.fields["held_at"])
        return found
