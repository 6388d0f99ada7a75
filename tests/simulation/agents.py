"""Agents: what they set out to do, and how stubbornly they repeat it."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from sidecar.exchange import Answer, Request

TRIES_MAX = 4
PATIENCE_S = 45.0
"""How long an agent waits for an answer before it takes the call for lost."""


@dataclass(frozen=True)
class Wish:
    """One thing that an agent wants done once."""

    label: str
    """Names it in the whole history."""
    method: str
    path: str
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """What an agent was told about a wish."""

    label: str
    status: int
    object_id: str
    code: str


Ask = Callable[[Request], Awaitable[Answer]]
"""Sends a request to some sidecar; raises `ConnectionError` or `TimeoutError`."""


class Agent:
    """Carries out a few tasks one after the other, each with calls that follow each other."""

    def __init__(self, name: str, seed: int, keys: Sequence[str], ask: Ask, tell: Callable[[str, str], None]):
        self.name = name
        self._chance = random.Random(f"{seed} {name}")
        self._keys = keys
        self._ask = ask
        self._tell = tell
        self._declined = self._chance.choice([0.0, 0.2, 0.6])
        self._insists = self._chance.random() < 0.3
        """Whether it repeats at once, and takes no for an answer only at the end."""
        self.heard: list[Heard] = []
        self.wishes: dict[str, Wish] = {}

    async def live(self) -> None:
        """Do everything."""
        chance = self._chance
        for number in range(chance.randint(1, 4)):
            await asyncio.sleep(chance.random() * 2)
            task = chance.choice([self._charge, self._charge, self._hold, self._intent, self._authorize])
            await task(
                f"{self.name}.{number}", chance.choice(self._keys), f"run-{chance.randint(1, 3)}-{self.name}"
            )

    async def _charge(self, label: str, key: str, run: str) -> None:
        amount = self._amount()
        source = "tok_chargeDeclined" if self._chance.random() < self._declined else "tok_visa"
        charge = await self._wish(
            key,
            run,
            Wish(label, "POST", "/v1/charges", {"amount": str(amount), "currency": "usd", "source": source}),
        )
        if charge and self._chance.random() < 0.3:
            await self._wish(key, run, Wish(f"{label}.look", "GET", f"/v1/charges/{charge}"))
        if charge and self._chance.random() < 0.3:
            part = str(self._chance.choice([amount, max(1, amount // 2)]))
            await self._wish(
                key, run, Wish(f"{label}.refund", "POST", "/v1/refunds", {"charge": charge, "amount": part})
            )

    async def _hold(self, label: str, key: str, run: str) -> None:
        amount = self._amount()
        form = {"amount": str(amount), "currency": "usd", "source": "tok_visa", "capture": "false"}
        charge = await self._wish(key, run, Wish(label, "POST", "/v1/charges", form))
        if charge:
            part = {"amount": str(self._chance.choice([amount, max(50, amount // 2)]))}
            wish = Wish(f"{label}.capture", "POST", f"/v1/charges/{charge}/capture", part)
            await self._wish(key, run, wish)

    async def _intent(self, label: str, key: str, run: str) -> None:
        form = {"amount": str(self._amount()), "currency": "usd", "payment_method": "pm_card_visa"}
        intent = await self._wish(key, run, Wish(label, "POST", "/v1/payment_intents", form))
        if intent:
            step = self._chance.choice(["confirm", "confirm", "cancel"])
            await self._wish(
                key, run, Wish(f"{label}.{step}", "POST", f"/v1/payment_intents/{intent}/{step}")
            )

    async def _authorize(self, label: str, key: str, run: str) -> None:
        amount = self._amount()
        form = {
            "amount": str(amount), "currency": "usd", "payment_method": "pm_card_visa",
            "capture_method": "manual", "confirm": "true",
        }  # fmt: skip
        intent = await self._wish(key, run, Wish(label, "POST", "/v1/payment_intents", form))
        if intent:
            step = self._chance.choice(["capture", "capture", "cancel"])
            part = {"amount_to_capture": str(max(1, amount // 2))} if step == "capture" else {}
            wish = Wish(f"{label}.{step}", "POST", f"/v1/payment_intents/{intent}/{step}", part)
            await self._wish(key, run, wish)

    def _amount(self) -> int:
        return self._chance.choice([50, 100, 100, 250, 400, 1000])

    async def _wish(self, key: str, run: str, wish: Wish) -> str:
        """Ask until there is an answer worth believing; return the object's id, or nothing."""
        self.wishes[wish.label] = wish
        chance = self._chance
        for _ in range(TRIES_MAX):
            # A framework may start the same call several times, and a model may call the tool once more.
            copies = chance.choice([1, 1, 1, 1, 2, 3])
            if chance.random() < 0.15:
                # Whoever has a key may have keys derived from it too: it is one effect all the same.
                key = chance.choice([one for one in self._keys if one[:15] == key[:15]])
            answers = await asyncio.gather(*(self._send(key, run, wish) for _ in range(copies)))
            if wish.form.get("amount") and chance.random() < 0.05:
                other = {**wish.form, "amount": str(int(wish.form["amount"]) + 1)}
                await self._send(key, run, Wish(wish.label, wish.method, wish.path, other))
            done = next((one for one in answers if one and one.status == 200), None)
            if done and chance.random() < 0.8:
                return done.object_id
            final = [one for one in answers if one and one.status < 500 and one.status not in {200, 409}]
            if final and not done and not self._insists and chance.random() < 0.8:
                return ""
            await asyncio.sleep(chance.choice([0, 0.05, 0.2] if self._insists else [0, 0.1, 1, 5, 40]))
        return next((one.object_id for one in answers if one and one.status == 200), "")

    async def _send(self, key: str, run: str, wish: Wish) -> Heard | None:
        headers: dict[bytes, list[bytes]] = {b"authorization": [f"Bearer {key}".encode()]}
        headers[b"spendgate-run-id"] = [run.encode()]
        form = dict(wish.form)
        if wish.method == "POST":
            headers[b"spendgate-step"] = [wish.label.encode()]
            headers[b"content-type"] = [b"application/x-www-form-urlencoded"]
            if not wish.path.endswith(("/capture", "/confirm", "/cancel")):
                form["metadata[wish]"] = wish.label
        self._tell(self.name, f"asks for {wish.label}: {wish.method} {wish.path} {urlencode(wish.form)}")
        request = Request(wish.method, wish.path, "", headers, urlencode(form).encode() if form else b"")
        try:
            async with asyncio.timeout(PATIENCE_S):
                answer = await self._ask(request)
        except (ConnectionError, TimeoutError) as error:
            self._tell(self.name, f"hears nothing of {wish.label}: {type(error).__name__}")
            return None
        body: Any = json.loads(answer.body)
        code = str(body.get("error", {}).get("code", ""))
        heard = Heard(wish.label, answer.status, str(body.get("id", "")), code)
        self._tell(self.name, f"hears of {wish.label}: {answer.status} {heard.code or heard.object_id}")
        self.heard.append(heard)
        return heard
