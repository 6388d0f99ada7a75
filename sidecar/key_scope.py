"""What a vault key may call: asked by those who offer calls to an agent, such as an MCP server."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from urllib.parse import parse_qsl

from sidecar import refusals, run_names
from sidecar.decisions import Decisions
from sidecar.exchange import Answer, Request, error_answer, json_answer
from sidecar.refusals import Refused
from sidecar.vault_keys import is_vault_key, key_text
from spendgate.v1 import policy_service_pb2 as pb

PATH = "/spendgate/allowed"
_ENDPOINTS_MAX = 16
_NO_RUN = "scope"
_AFTER_THE_ENDPOINT = frozenset(
    {
        pb.DENY_REASON_VENDOR_ACCOUNT_NOT_ALLOWED,
        pb.DENY_REASON_CURRENCY_NOT_ALLOWED,
        pb.DENY_REASON_PARAMETER_NOT_ALLOWED,
        pb.DENY_REASON_RUN_ID_REQUIRED,
        pb.DENY_REASON_IDEMPOTENCY_MISMATCH,
        pb.DENY_REASON_EFFECT_TOO_OLD,
        pb.DENY_REASON_AMOUNT_UNKNOWN,
        pb.DENY_REASON_CAP_EXCEEDED,
    }
)
"""Reasons that are looked for once the endpoint is allowed. One that is newer than this is none of them."""


class KeyScope:
    """Answers ``GET /spendgate/allowed?endpoint=POST%20/v1/charges&endpoint=…``.

    Each endpoint is put to the policy server as a call that holds and records
    nothing, so the answer is true of every kind of key, and for the run that the
    request names as a call would. It says nothing of caps.
    """

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._process = secrets.token_hex(12)
        self._questions = itertools.count(1)

    async def handle(self, request: Request) -> Answer:
        """Answer one request."""
        key = key_text(request)
        if not is_vault_key(key):
            return error_answer(
                401,
                "vault_key_invalid",
                "Send a vault key as 'Authorization: Bearer vk_…', and no other key.",
            )
        try:
            query = parse_qsl(
                request.query, keep_blank_values=True, strict_parsing=True, max_num_fields=_ENDPOINTS_MAX
            )
        except ValueError:
            query = []
        endpoints = [value for name, value in query if name == "endpoint"]
        if not endpoints or len(endpoints) != len(query):
            return error_answer(
                400,
                "parameter_invalid",
                f"Name 1 to {_ENDPOINTS_MAX} endpoints, such as {PATH}?endpoint=POST%20/v1/charges.",
            )
        try:
            run_id = run_names.read(request, key).run_id or _NO_RUN
            # A key that is refused costs one decision.
            first = await self._allowed(key, endpoints[0], run_id)
            others = await asyncio.gather(*(self._allowed(key, one, run_id) for one in endpoints[1:]))
            allowed = [first, *others]
        except Refused as refused:
            return error_answer(refused.status, refused.code, refused.message)
        return json_answer(
            200, {"allowed": [endpoint for endpoint, yes in zip(endpoints, allowed, strict=True) if yes]}
        )

    async def _allowed(self, key: str, endpoint: str, run_id: str) -> bool:
        verdict = await self._decisions.ask(
            pb.AuthorizeRequest(
                vault_key=key,
                endpoint=endpoint,
                run_id=run_id,
                # Its amount is asked for after its endpoint.
                moves_money=not endpoint.startswith(("GET ", "HEAD ")),
                validate_only=True,
                request_id=f"{self._process}-{next(self._questions)}",
            )
        )
        if verdict.decision == pb.DECISION_ALLOW or verdict.deny_reason in _AFTER_THE_ENDPOINT:
            return True
        if verdict.deny_reason == pb.DENY_REASON_ENDPOINT_NOT_ALLOWED:
            return False
        raise refusals.denied(verdict)
