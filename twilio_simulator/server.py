"""The HTTP server: authenticates, hands requests to the messages, breaks them where a fault says so.

Below `/_simulator/` a test sees what was received (`GET requests`), moves messages on
(`POST messages/{sid}`), injects faults (`POST faults`, `DELETE faults`) and starts afresh (`POST reset`).
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
from dataclasses import asdict, dataclass, field
from urllib.parse import parse_qs

from aiohttp import web

from twilio_simulator.messages import API_VERSION, Form, JsonObject, Messages, TwilioError

HOST = "127.0.0.1"
FAULTS = ("drop_reply", "error_before", "error_after", "refuse")
"""Answer lost after the work; an error before it; an error after it; connection reset before it."""

_CONTROL = "/_simulator/"
_PATH = re.compile(rf"/{API_VERSION}/Accounts/([^/]+)/Messages(?:/([^/.]+))?\.json")
_SHUTDOWN_SECONDS = 1.0
# SO_LINGER on with zero seconds: closing the socket then resets the connection.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class LoggedRequest:
    """One request. `status` is None when its connection was reset."""

    method: str
    path: str
    user: str
    headers: dict[str, str]
    parameters: Form = field(default_factory=dict)
    status: int | None = None
    executed: bool = False
    fault: str | None = None


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method."""

    kind: str
    method: str = "POST"
    times: int = 1
    status: int = 500


class Server:
    """One account at one simulated Twilio on one loopback port."""

    def __init__(self, account_sid: str, auth_token: str) -> None:
        self._account_sid = account_sid
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._authorization = f"Basic {credentials}"
        self._messages = Messages(account_sid)
        self._log: list[LoggedRequest] = []
        self._faults: list[Fault] = []
        self._runner: web.ServerRunner | None = None

    async def start(self, port: int) -> str:
        """Listen, and return the base URL; port 0 takes any free one."""
        runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        self._runner = runner
        return f"http://{HOST}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = (await request.read()).decode()
        if request.path.startswith(_CONTROL):
            try:
                told = self._control(request.method, request.path.removeprefix(_CONTROL), body)
            except (TwilioError, ValueError, TypeError) as error:
                return web.json_response({"error": str(error)}, status=400)
            return web.json_response(told)
        headers = {name.lower(): value for name, value in request.headers.items()}
        sent = headers.pop("authorization", "")
        entry = LoggedRequest(
            request.method, request.path, self._account_sid if sent == self._authorization else "", headers
        )
        self._log.append(entry)
        fault = self._take_fault(request.method)
        entry.fault = fault.kind if fault else None
        if fault and fault.kind == "refuse":
            return _cut(request, reset=True)
        entry.parameters = parse_qs(body or request.query_string, keep_blank_values=True)
        answer = self._execute(entry, fault)
        if fault and fault.kind == "drop_reply":
            return _cut(request, reset=False)
        return answer

    def _execute(self, entry: LoggedRequest, fault: Fault | None) -> web.Response:
        try:
            if fault and fault.kind == "error_before":
                raise _outage(fault.status)
            if not entry.user:
                raise TwilioError(401, 20003, "Authenticate")
            status, body = self._call(entry)
            # The answer is written now: a message may be moved on before it leaves.
            text = json.dumps(body) if body is not None else ""
            entry.executed = entry.method != "GET"
            if fault and fault.kind == "error_after":
                raise _outage(fault.status)
        except TwilioError as error:
            status, text = error.status, json.dumps(error.body)
        entry.status = status
        headers = {"Twilio-Request-Id": f"RQ{len(self._log):032x}", "Twilio-Concurrent-Requests": "1"}
        return web.Response(status=status, text=text, headers=headers, content_type="application/json")

    def _call(self, entry: LoggedRequest) -> tuple[int, JsonObject | None]:
        match = _PATH.fullmatch(entry.path)
        if match is None or match[1] != self._account_sid:
            raise TwilioError(404, 20404, f"The requested resource {entry.path} was not found")
        sid, form = match[2], entry.parameters
        match entry.method, sid:
            case "POST", None:
                return 201, self._messages.create(form)
            case "GET", None:
                return 200, self._messages.list(form)
            case "GET", str():
                return 200, self._messages.fetch(sid)
            case "POST", str():
                return 200, self._messages.update(sid, form)
            case "DELETE", str():
                self._messages.delete(sid)
                return 204, None
        raise TwilioError(405, 20004, "Method not allowed")

    def _take_fault(self, method: str) -> Fault | None:
        fault = next((one for one in self._faults if one.method == method), None)
        if fault is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)
        return fault

    def _control(self, method: str, name: str, body: str) -> JsonObject | list[JsonObject]:
        sent = json.loads(body) if body else {}
        what, _, sid = name.partition("/")
        match method, what:
            case "GET", "requests":
                return [asdict(entry) for entry in self._log]
            case "GET", "summary":
                return {"messages": len(self._messages)}
            case "POST", "messages":
                return self._messages.move(sid, sent)
            case "POST", "faults":
                fault = Fault(sent.pop("fault"), **sent)
                if fault.kind not in FAULTS:
                    raise ValueError(f"a fault is one of {', '.join(FAULTS)}")
                self._faults.append(fault)
                return asdict(fault)
            case "DELETE", "faults":
                self._faults.clear()
                return {}
            case "POST", "reset":
                self._messages = Messages(self._account_sid)
                self._log.clear()
                self._faults.clear()
                return {}
        raise ValueError(f"there is no {method} {name}")


def _outage(status: int) -> TwilioError:
    if status == 429:
        return TwilioError(429, 20429, "Too Many Requests")
    return TwilioError(status, 20000 + status, "An internal error has occurred")


def _cut(request: web.BaseRequest, *, reset: bool) -> web.Response:
    """Close the connection under the answer; writing the answer afterwards does nothing."""
    transport = request.transport
    if transport is not None and reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    elif transport is not None:
        transport.close()
    return web.Response()
