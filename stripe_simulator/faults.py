"""Faults to inject: what goes wrong, for which requests, and how many times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripe_simulator.errors import JsonObject

DROP_REPLY = "drop_reply"
DELAY = "delay"
ERROR_BEFORE = "error_before"
ERROR_AFTER = "error_after"
REFUSE = "refuse"
GZIP = "gzip"
"""The answer is gzip-encoded although nobody asked."""

RATE_LIMIT = "rate_limit"
"""429 before anything else is looked at, as Stripe's limiter does."""

KINDS = (DROP_REPLY, DELAY, ERROR_BEFORE, ERROR_AFTER, REFUSE, GZIP, RATE_LIMIT)
STAGES = ("before", "after")

_LONGEST_DELAY_SECONDS = 3600
_FIELDS = frozenset(("fault", "match", "times", "seconds", "status", "stage"))
_MATCH_FIELDS = frozenset(("method", "path"))


class FaultError(ValueError):
    """A fault described in a way that cannot be meant; the message says what is wrong."""


@dataclass(slots=True)
class Fault:
    """`times` is how often it still strikes; None means until it is cleared. `path` is a prefix.

    `seconds` is how long a delay is, or what a rate limit says in Retry-After; 0 is nothing.
    """

    kind: str
    method: str | None = None
    path: str | None = None
    times: int | None = 1
    seconds: float = 0.0
    status: int = 500
    stage: str = "before"

    def matches(self, method: str, path: str) -> bool:
        return (self.method is None or self.method == method) and (
            self.path is None or path.startswith(self.path)
        )

    def json(self) -> JsonObject:
        described: JsonObject = {
            "fault": self.kind,
            "match": {"method": self.method, "path": self.path},
            "times": self.times,
        }
        if self.kind == DELAY:
            described |= {"seconds": self.seconds, "stage": self.stage}
        if self.kind == RATE_LIMIT:
            described["seconds"] = self.seconds
        if self.kind in (ERROR_BEFORE, ERROR_AFTER):
            described["status"] = self.status
        return described


class Faults:
    """The faults in force. A request meets at most one: the oldest that matches it."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self.when_cleared: Callable[[], None] = lambda: None

    def add(self, fault: Fault) -> None:
        self._active.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that strikes this request, counted down."""
        for fault in self._active:
            if fault.matches(method, path):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._active.remove(fault)
                return fault
        return None

    def clear(self) -> int:
        """Drop every fault and let delayed requests go on at once; tells how many there were."""
        count = len(self._active)
        self._active.clear()
        self.when_cleared()
        return count

    def json(self) -> list[JsonObject]:
        return [fault.json() for fault in self._active]


def read_fault(described: Any) -> Fault:
    """The fault that a JSON object describes; raises FaultError for anything that is not understood."""
    if not isinstance(described, dict):
        raise FaultError("a fault is a JSON object")
    _refuse_unknown(described, _FIELDS, "a fault")
    kind = described.get("fault")
    if kind not in KINDS:
        raise FaultError(f"fault must be one of {', '.join(KINDS)}")
    _refuse_misplaced(described, kind)
    method, path = _read_match(described.get("match", {}))
    return Fault(
        kind=kind,
        method=method,
        path=path,
        times=_read_times(described.get("times", 1)),
        seconds=_read_seconds(described["seconds"]) if "seconds" in described else 0.0,
        status=_read_status(described.get("status", 500)),
        stage=_read_stage(described.get("stage", "before")),
    )


def _refuse_unknown(described: dict[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(set(described) - known)
    if unknown:
        raise FaultError(f"{what} has no field {unknown[0]!r}; known are {', '.join(sorted(known))}")


def _refuse_misplaced(described: dict[str, Any], kind: str) -> None:
    if kind == DELAY and "seconds" not in described:
        raise FaultError("delay needs seconds")
    if "seconds" in described and kind not in (DELAY, RATE_LIMIT):
        raise FaultError(f"seconds belongs to delay and rate_limit, not to {kind}")
    if "stage" in described and kind != DELAY:
        raise FaultError(f"stage belongs to delay, not to {kind}")
    if "status" in described and kind not in (ERROR_BEFORE, ERROR_AFTER):
        raise FaultError(f"status belongs to error_before and error_after, not to {kind}")


def _read_match(match: Any) -> tuple[str | None, str | None]:
    if not isinstance(match, dict):
        raise FaultError("match is an object with method and path")
    _refuse_unknown(match, _MATCH_FIELDS, "match")
    method, path = match.get("method"), match.get("path")
    if method is not None and not isinstance(method, str):
        raise FaultError("match.method must be a string")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise FaultError("match.path must be a string that begins with /")
    return method.upper() if method is not None else None, path


def _is_number(value: Any) -> bool:
    # JSON's true is an int in Python.
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_times(times: Any) -> int | None:
    if times is None:
        return None
    if not _is_number(times) or times != int(times) or times < 1:
        raise FaultError("times must be a whole number of at least 1, or null for until cleared")
    return int(times)


def _read_seconds(seconds: Any) -> float:
    if not _is_number(seconds) or not 0 < seconds <= _LONGEST_DELAY_SECONDS:
        raise FaultError(f"seconds must be a number above 0 and at most {_LONGEST_DELAY_SECONDS}")
    return float(seconds)


def _read_status(status: Any) -> int:
    if not _is_number(status) or status != int(status) or not 400 <= status <= 599:
        raise FaultError("status must be a whole number from 400 to 599")
    return int(status)


def _read_stage(stage: Any) -> str:
    if stage not in STAGES:
        raise FaultError(f"stage must be one of {', '.join(STAGES)}")
    return str(stage)
