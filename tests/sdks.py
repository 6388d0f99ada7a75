"""The official Stripe SDKs, unchanged, behind one way to ask: a method by name, its arguments, options.

Programs use them in four styles: Python's module, its client, its client's async
methods, and Node's client. Nothing but an address and a vault key is set.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import stripe

from tests.processes import REPOSITORY, clean_environment

STYLES = ("module", "client", "async", "node")
NODE = shutil.which("node")
NODE_FOLDER = REPOSITORY / "tests" / "node"

Params = Mapping[str, Any]


class SdkError(Exception):
    """What an SDK raised, in the words that all of them share."""

    def __init__(self, kind: str, status: int | None, error: Mapping[str, Any]) -> None:
        """``kind`` is the class, without Stripe's name; ``error`` is the object of that name in the body."""
        super().__init__(f"{kind} {status}: {error.get('message')}")
        self.kind = kind
        self.status = status
        self.code = error.get("code")
        self.param = error.get("param")
        self.spendgate: Mapping[str, Any] = error.get("spendgate", {})


class Sdk(Protocol):
    """One SDK in one style, with one vault key."""

    def call(self, method: str, *arguments: Any, **options: str) -> Any:
        """Call a method such as ``charges.create``; options: ``run``, ``step``, ``key``, ``account``."""

    def ids(self, method: str, params: Params) -> list[str]:
        """List all there is, page by page, as the SDK does it."""

    def upload(self, name: str, content: bytes) -> Any:
        """Upload a file as evidence for a dispute."""

    def pdf(self, quote: str) -> bytes:
        """Download the PDF of a quote, which is streamed."""

    def close(self) -> None:
        """Let go of what is open, and put back what was set."""


def sdk(style: str, key: str, origin: str, node: NodeProcess | None) -> Sdk:
    """Open an SDK in one of `STYLES`."""
    if style == "node":
        assert node is not None
        return NodeSdk(node, key, origin)
    return {"module": ModuleSdk, "client": ClientSdk, "async": AsyncSdk}[style](key, origin)


def _headers(options: Mapping[str, str]) -> dict[str, str]:
    named = {"run": "Spendgate-Run-Id", "step": "Spendgate-Step"}
    return {named[name]: value for name, value in options.items() if name in named}


def _python_options(options: Mapping[str, str]) -> dict[str, Any]:
    named = {"key": "idempotency_key", "account": "stripe_account"}
    found: dict[str, Any] = {named[name]: value for name, value in options.items() if name in named}
    headers = _headers(options)
    return {**found, "headers": headers} if headers else found


def _split(arguments: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Ids and parameters, which may be left out."""
    if arguments and isinstance(arguments[-1], Mapping):
        return list(arguments[:-1]), dict(arguments[-1])
    return list(arguments), {}


def _file(name: str, content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as error:
        raise _in_common_words(error) from None


def _in_common_words(error: stripe.StripeError) -> SdkError:
    body = error.json_body if isinstance(error.json_body, Mapping) else {}
    kind = type(error).__name__.replace("APIConnection", "Connection")
    return SdkError(kind, error.http_status, body.get("error", {"message": str(error)}))


class ModuleSdk:
    """``stripe.Charge.create(amount=1900, …)``, with the settings of the module."""

    _CLASSES: Mapping[str, Any] = {
        "charges": stripe.Charge,
        "checkout.sessions": stripe.checkout.Session,
        "billing.meter_events": stripe.billing.MeterEvent,
        "customers": stripe.Customer,
        "events": stripe.Event,
        "invoice_items": stripe.InvoiceItem,
        "invoices": stripe.Invoice,
        "payment_intents": stripe.PaymentIntent,
        "payouts": stripe.Payout,
        "prices": stripe.Price,
        "products": stripe.Product,
        "quotes": stripe.Quote,
        "refunds": stripe.Refund,
        "subscriptions": stripe.Subscription,
        "tokens": stripe.Token,
    }
    _SETTINGS = ("api_key", "api_base", "upload_api_base", "connect_api_base", "meter_events_api_base")

    def __init__(self, key: str, origin: str) -> None:
        self._before = {name: getattr(stripe, name) for name in self._SETTINGS}
        stripe.api_key = key
        for name in self._SETTINGS[1:]:
            setattr(stripe, name, origin)

    def call(self, method: str, *arguments: Any, **options: str) -> Any:
        """Call a method of a class."""
        ids, params = _split(arguments)
        noun, _, verb = method.rpartition(".")
        verb = {"update": "modify"}.get(verb, verb)
        with _translated():
            return getattr(self._CLASSES[noun], verb)(*ids, **params, **_python_options(options)).to_dict()

    def ids(self, method: str, params: Params) -> list[str]:
        """List with `auto_paging_iter`."""
        page = self._CLASSES[method].list(**params)
        return [one.id for one in page.auto_paging_iter()]

    def upload(self, name: str, content: bytes) -> Any:
        """Upload with `stripe.File`."""
        return stripe.File.create(purpose="dispute_evidence", file=_file(name, content)).to_dict()

    def pdf(self, quote: str) -> bytes:
        """Download with `stripe.Quote`."""
        with _translated():
            return bytes(stripe.Quote.pdf(quote).io.read())

    def close(self) -> None:
        """Put the settings of the module back."""
        for name, value in self._before.items():
            setattr(stripe, name, value)


class ClientSdk:
    """``client.v1.charges.create({"amount": 1900, …}, {"headers": …})``."""

    _suffix = ""

    def __init__(self, key: str, origin: str, http_client: stripe.HTTPClient | None = None) -> None:
        addresses: Any = dict.fromkeys(("api", "files", "connect", "meter_events"), origin)
        self._client: Any = stripe.StripeClient(
            key, base_addresses=addresses, max_network_retries=2, http_client=http_client
        )

    def _method(self, method: str) -> Any:
        *nouns, verb = method.split(".")
        service = self._client if nouns[0] == "v2" else self._client.v1
        for noun in nouns:
            service = getattr(service, noun)
        return getattr(service, f"{verb}{self._suffix}")

    def _made(self, method: str, *arguments: Any) -> Any:
        return self._method(method)(*arguments)

    def call(self, method: str, *arguments: Any, **options: str) -> Any:
        """Call a method of a service."""
        ids, params = _split(arguments)
        with _translated():
            return self._made(method, *ids, params, _python_options(options)).to_dict()

    def ids(self, method: str, params: Params) -> list[str]:
        """List with `auto_paging_iter`."""
        return [one.id for one in self._made(f"{method}.list", dict(params)).auto_paging_iter()]

    def upload(self, name: str, content: bytes) -> Any:
        """Upload with the service for files."""
        params = {"purpose": "dispute_evidence", "file": _file(name, content)}
        return self._made("files.create", params).to_dict()

    def pdf(self, quote: str) -> bytes:
        """Download with the service for quotes."""
        with _translated():
            return bytes(self._made("quotes.pdf", quote).io.read())

    def close(self) -> None:
        """Nothing is open."""


class AsyncSdk(ClientSdk):
    """``await client.v1.charges.create_async(…)``."""

    _suffix = "_async"

    def __init__(self, key: str, origin: str) -> None:
        self._runner = asyncio.Runner()
        self._http = stripe.HTTPXClient()
        super().__init__(key, origin, self._http)

    def _made(self, method: str, *arguments: Any) -> Any:
        return self._runner.run(self._method(method)(*arguments))

    def ids(self, method: str, params: Params) -> list[str]:
        """List with ``async for``."""

        async def listed() -> list[str]:
            page = await self._method(f"{method}.list")(dict(params))
            return [one.id async for one in page.auto_paging_iter()]

        return self._runner.run(listed())

    def pdf(self, quote: str) -> bytes:
        """Download in pieces."""

        async def downloaded() -> bytes:
            answer = await self._method("quotes.pdf")(quote)
            return bytes(await answer.read_async())

        with _translated():
            return self._runner.run(downloaded())

    def close(self) -> None:
        """Close the connections and the loop."""
        self._runner.run(self._http.close_async())
        self._runner.close()


def why_no_node() -> str:
    """Why Node's SDK can't be used here; empty when it can."""
    if NODE is None:
        return "node is not installed"
    if not (NODE_FOLDER / "node_modules" / "stripe").is_dir():
        return "Stripe's SDK for Node is not installed; `make node` does it where npm is"
    return ""


class NodeProcess:
    """``tests/node/calls.js``: one command a line goes in, one line of JSON comes out."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [str(NODE), str(NODE_FOLDER / "calls.js")],
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **command: Any) -> Any:
        """Return what a command gives, or raise what the SDK raised."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{json.dumps(command)}\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise SdkError(answer["kind"], answer["status"], answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the process by ending its input."""
        self._child.communicate(timeout=20)


class NodeSdk:
    """``stripe.charges.create({amount: 1900, …}, {idempotencyKey: …})``."""

    def __init__(self, node: NodeProcess, key: str, origin: str) -> None:
        self._node = node
        self._client = {"key": key, "origin": origin}

    def call(self, method: str, *arguments: Any, **options: str) -> Any:
        """Call a method of a resource."""
        ids, params = _split(arguments)
        named = {"key": "idempotencyKey", "account": "stripeAccount"}
        given: dict[str, Any] = {named[name]: value for name, value in options.items() if name in named}
        headers = _headers(options)
        if headers:
            given["headers"] = headers
        sent = [*ids, *([params] if params else []), *([given] if given else [])]
        return self._ask("call", method=_camel(method), arguments=sent)

    def ids(self, method: str, params: Params) -> list[str]:
        """List with ``for await``."""
        listed: list[str] = self._ask("ids", method=_camel(f"{method}.list"), params=params)
        return listed

    def upload(self, name: str, content: bytes) -> Any:
        """Upload with ``stripe.files``."""
        return self._ask("upload", name=name, content=base64.b64encode(content).decode())

    def pdf(self, quote: str) -> bytes:
        """Download as a stream of Node."""
        return base64.b64decode(self._ask("pdf", quote=quote))

    def close(self) -> None:
        """The process is shared."""

    def _ask(self, what: str, **command: Any) -> Any:
        return self._node.ask(what=what, **self._client, **command)


def _camel(method: str) -> str:
    """``payment_intents.create`` as Node has it."""
    camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), method)
    return re.sub(r"\.delete$", ".del", camel)
