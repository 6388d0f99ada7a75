"""What the sidecar takes off a connection: only requests with a certain end, and nothing without a limit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.processes import temporary_folder, wait_for
from tests.stack import CHARGE, Stack, running_stack
from tests.wire import connect, exchange, receive, send

FORM = b"amount=1900&currency=usd&source=tok_visa"
LINE = b"POST /stripe/v1/charges HTTP/1.1\r\n"
NAMED = (
    b"Host: api.stripe.com\r\nAuthorization: Bearer KEY\r\nSpendgate-Run-Id: run-1\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n"
)
HEAD = LINE + NAMED
SIZED = b"Content-Length: 40\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNK = b"28\r\n" + FORM + b"\r\n"
SECOND = HEAD.replace(b"run-1", b"run-2") + SIZED + b"\r\n" + FORM

SHAPES: dict[str, bytes] = {
    "length and chunks": HEAD + SIZED + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n" + SECOND,
    "chunks and length": HEAD + CHUNKED + SIZED + b"\r\n" + CHUNK + b"0\r\n\r\n" + SECOND,
    "length 0 and chunks": HEAD + b"Content-Length: 0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SECOND,
    "two lengths": HEAD + SIZED + b"Content-Length: 0\r\n\r\n" + FORM + SECOND,
    "two equal lengths": HEAD + SIZED + SIZED + b"\r\n" + FORM,
    "list of lengths": HEAD + b"Content-Length: 40, 40\r\n\r\n" + FORM,
    "length with a sign": HEAD + b"Content-Length: +40\r\n\r\n" + FORM,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + FORM,
    "hexadecimal length": HEAD + b"Content-Length: 0x28\r\n\r\n" + FORM,
    "length in two words": HEAD + b"Content-Length: 40 0\r\n\r\n" + FORM,
    "empty length": HEAD + b"Content-Length: \r\n\r\n" + FORM,
    "length over 64 bits": HEAD + b"Content-Length: 18446744073709551656\r\n\r\n" + FORM,
    "length in full-width digits": HEAD + b"Content-Length: \xef\xbc\x94\xef\xbc\x90\r\n\r\n" + FORM,
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "compressed chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "chunks, then identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "chunks in chunks": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "empty coding": HEAD + b"Transfer-Encoding: ,chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "chunks twice": HEAD + CHUNKED + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "quoted coding": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNK + b"0\r\n\r\n",
    "coding with a parameter": HEAD + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "coding after a vertical tab": HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "chunks in HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n",
    "folded header": HEAD + b"X-Folded: a\r\n Content-Length: 40\r\n\r\n" + FORM,
    "folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n",
    "lines that end in LF": (HEAD + SIZED + b"\r\n").replace(b"\r\n", b"\n") + FORM,
    "one line that ends in LF": HEAD + b"X-A: b\n" + SIZED + b"\r\n" + FORM,
    "one line that ends in CR": HEAD + b"X-A: b\r" + SIZED + b"\r\n" + FORM,
    "NUL in a header": HEAD + b"X-A: b\0c\r\n" + SIZED + b"\r\n" + FORM,
    "header without a colon": HEAD + b"Charge\r\n" + SIZED + b"\r\n" + FORM,
    "header without a name": HEAD + b": x\r\n" + SIZED + b"\r\n" + FORM,
    "space in a header's name": HEAD + b"Content Length: 0\r\n" + SIZED + b"\r\n" + FORM,
    "space before the first header": LINE + b" X: y\r\n" + NAMED + SIZED + b"\r\n" + FORM,
    "chunks that end in LF": HEAD + CHUNKED + b"\r\n" + b"28\n" + FORM + b"\n0\n\n",
    "chunk longer than it says": HEAD + CHUNKED + b"\r\n" + b"26\r\n" + FORM + b"\r\n0\r\n\r\n",
    "chunk with 0x": HEAD + CHUNKED + b"\r\n0x28\r\n" + FORM + b"\r\n0\r\n\r\n",
    "chunk with a sign": HEAD + CHUNKED + b"\r\n+28\r\n" + FORM + b"\r\n0\r\n\r\n",
    "chunk size with a space": HEAD + CHUNKED + b"\r\n28 \r\n" + FORM + b"\r\n0\r\n\r\n",
    "chunk over 64 bits": HEAD + CHUNKED + b"\r\n10000000000000028\r\n" + FORM + b"\r\n0\r\n\r\n",
    "LF in a chunk's extension": HEAD + CHUNKED + b"\r\n28;a\nb\r\n" + FORM + b"\r\n0\r\n\r\n",
    "bad chunk after a good one": HEAD + CHUNKED + b"\r\n" + CHUNK + b"?\r\n\r\n",
    "trailers": HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\nStripe-Account: acct_1\r\n\r\n",
    "trailer that gives a length": HEAD
    + CHUNKED
    + b"\r\n"
    + CHUNK
    + b"0\r\nContent-Length: 0\r\n\r\n"
    + SECOND,
    "another protocol": HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + SIZED + b"\r\n" + SECOND,
    "another protocol, if that is wanted": HEAD + b"Upgrade: websocket\r\n" + SIZED + b"\r\n" + FORM,
    "CONNECT": b"CONNECT /stripe/v1/charges HTTP/1.1\r\n" + NAMED + SIZED + b"\r\n" + FORM + SECOND,
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "HTTP/2.0": HEAD.replace(b"1.1", b"2.0") + SIZED + b"\r\n" + FORM,
    "HTTP/1.2": HEAD.replace(b"1.1", b"1.2") + SIZED + b"\r\n" + FORM,
    "HTTP/0.9": b"POST /stripe/v1/charges\r\n\r\n" + SECOND,
    "fragment": HEAD.replace(b"charges", b"charges#x") + SIZED + b"\r\n" + FORM,
    "path not ASCII": HEAD.replace(b"charges", b"charges\xff") + SIZED + b"\r\n" + FORM,
    "tab in the path": HEAD.replace(b"charges", b"charges\tx") + SIZED + b"\r\n" + FORM,
    "only a host": HEAD.replace(b"/stripe/v1/charges", b"http://x") + SIZED + b"\r\n" + FORM,
    "two requests under one head": HEAD + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n28\r\n" + SECOND,
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("split", [False, True], ids=["one packet", "many packets"])
def test_a_request_whose_end_is_not_certain_is_refused(stack: Stack, name: str, split: bool) -> None:
    """The connection is closed after one refusal, and neither the request nor what follows it leaves."""
    key = stack.key()
    sent = SHAPES[name].replace(b"KEY", key.text.encode())
    pieces = [sent[at : at + 60] for at in range(0, len(sent), 60)] if split else [sent]
    reply = exchange(stack.origin(), *pieces, whole=True)
    assert reply.closed
    assert reply.statuses in ([400], [404], [501]), reply
    assert stack.simulator.http.get("/requests").json() == []
    assert (stack.usage(key).held, stack.usage(key).settled) == (0, 0)


def test_what_follows_a_request_before_its_answer_is_not_read(stack: Stack) -> None:
    """The first is answered, and the connection closed; the second never leaves, be it whole or garbage."""
    for follows in (SECOND, b"garbage", b"\0", SECOND[:90]):
        key = stack.key()
        sent = (HEAD + SIZED + b"\r\n" + FORM + follows).replace(b"KEY", key.text.encode())
        before = len(stack.simulator.posts())
        reply = exchange(stack.origin(), sent, whole=True)
        assert (reply.statuses, reply.closed) == ([200], True)
        assert b"connection: close" in reply.raw
        assert len(stack.simulator.posts()) == before + 1
        stack.settled(key, 1900)


def test_a_connection_serves_one_request_after_the_other(stack: Stack) -> None:
    """Keep-alive works, with lengths, with chunks and with empty lines between."""
    key = stack.key()
    first = (HEAD + SIZED + b"\r\n" + FORM).replace(b"KEY", key.text.encode())
    second = (HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n").replace(b"KEY", key.text.encode())
    with connect(stack.origin()) as connection:
        for sent in (first, second, b"\r\n" + first):
            send(connection, [sent])
            assert receive(connection).status == 200
    assert len(stack.simulator.executed()) == 1


@pytest.mark.parametrize("cut", [1, 12, 33, 39])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_breaks_off_is_never_acted_on(stack: Stack, cut: int, chunked: bool) -> None:
    """Part of a form could be another, valid form, such as a smaller amount."""
    key = stack.key()
    part = b"40\r\n" + FORM[:cut] if chunked else FORM[:cut]
    sent = HEAD + (CHUNKED if chunked else SIZED) + b"\r\n" + part
    with connect(stack.origin()) as connection:
        send(connection, [sent.replace(b"KEY", key.text.encode())])
    # The next call on the same loop comes after it.
    assert stack.agent(key, "run-9").post("/charges", data=CHARGE).status_code == 200
    assert [post["idempotency_key"][:5] for post in stack.simulator.posts()] == ["run-9"]
    stack.settled(key, 1900)


def test_a_confirmation_whose_body_is_lost_is_not_sent(stack: Stack) -> None:
    """Without its body it would mean something else: the whole amount instead of a part."""
    key = stack.key()
    agent = stack.agent(key, "run-1")
    form = {"amount": "1900", "currency": "usd", "payment_method": "pm_card_visa"}
    intent = agent.post("/payment_intents", data=form).json()["id"].encode()
    head = HEAD.replace(b"charges", b"payment_intents/" + intent + b"/confirm")
    sent = head + b"Content-Length: 22\r\n\r\namount_to_confirm="
    with connect(stack.origin()) as connection:
        send(connection, [sent.replace(b"KEY", key.text.encode())])
    assert agent.get(f"/payment_intents/{intent.decode()}").json()["status"] == "requires_confirmation"
    assert len(stack.simulator.posts()) == 1


# Limits


@pytest.fixture(scope="module")
def small() -> Iterator[Stack]:
    """A sidecar that is soon out of patience and room."""
    with (
        temporary_folder() as folder,
        running_stack(folder, read_timeout_s="1", connections_max="40", body_bytes_max="4096") as stack,
    ):
        yield stack


def charged(stack: Stack) -> bool:
    """Whether somebody else is served at once, on a new connection."""
    answer = httpx.post(
        f"{stack.origin()}/v1/charges",
        data=dict(CHARGE),
        headers={"Authorization": f"Bearer {stack.key().text}", "Spendgate-Run-Id": "other"},
        timeout=10,
    )
    return answer.status_code == 200


@pytest.mark.parametrize("size", [40_000, 65_536, 1_000_000])
@pytest.mark.parametrize("ends", [True, False])
def test_large_headers_are_refused(small: Stack, size: int, ends: bool) -> None:
    """In one header or in many, and also when they never end."""
    many = b"".join(b"X-%d: y\r\n" % number for number in range(size // 5))
    for headers in (b"X-A: " + b"a" * size + b"\r\n", many):
        sent = LINE + headers + (SIZED + b"\r\n" + FORM if ends else b"")
        reply = exchange(small.origin(), sent, whole=True)
        # What is still on its way when the connection closes may reset it before the answer is read.
        assert reply.status in {431, 0}
        assert reply.closed
    assert charged(small)


def test_headers_up_to_the_limit_are_taken(small: Stack) -> None:
    """32 KB, in one header."""
    key = small.key()
    sent = HEAD + b"X-A: " + b"a" * 32_000 + b"\r\n" + SIZED + b"\r\n" + FORM
    assert exchange(small.origin(), sent.replace(b"KEY", key.text.encode())).status == 200


SLOW = {
    "nothing": (b"", 0),
    "part of a line": (b"POST /str", 408),
    "headers that never end": (LINE + b"X-A: ", 408),
    "a body that never comes": (HEAD + SIZED + b"\r\n", 408),
    "a body that stays behind": (HEAD + SIZED + b"\r\n" + FORM[:-1], 408),
    "chunks without an end": (HEAD + CHUNKED + b"\r\n" + CHUNK, 408),
    "empty lines": (b"\r\n\r\n", 0),
    "a body for a path that is not there": (LINE.replace(b"/v1/", b"/v9/") + SIZED + b"\r\n", 404),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_request_that_does_not_come_in_time_is_given_up(small: Stack, name: str) -> None:
    """Closed with 408, or without a word where nothing had begun; nothing of it leaves."""
    small.simulator.reset()
    sent, status = SLOW[name]
    with connect(small.origin()) as connection:
        send(connection, [sent.replace(b"KEY", small.key().text.encode())])
        assert charged(small)
        reply = receive(connection, whole=True)
    assert (reply.status, reply.closed) == (status, True)
    assert len(small.simulator.posts()) == 1


def test_a_request_in_drips_is_given_up_too(small: Stack) -> None:
    """Each byte on its own does not begin the time anew."""
    with connect(small.origin()) as connection:
        connection.settimeout(0.02)
        raw = b""
        try:
            while True:
                connection.sendall(b"GET /" if not raw else b"x")
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    continue
                if not part:
                    break
                raw += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert raw.startswith(b"HTTP/1.1 4") or not raw


def test_who_waits_longest_makes_room(small: Stack) -> None:
    """Any number of idle or slow connections keep nobody from being served."""
    with ExitStack() as open_ones:
        for number in range(200):
            connection = open_ones.enter_context(connect(small.origin(root=number % 2 == 1)))
            send(connection, [b"GET / HTTP/1.1\r\nX-Slow: "] if number % 3 else [])
        assert charged(small)


def test_a_call_under_way_never_makes_room(small: Stack) -> None:
    """With every connection in use the next one is told so, and the calls under way are answered."""
    small.simulator.reset()
    key = small.key(caps=None)
    small.simulator.fault("delay", seconds=60, times=40)
    with ExitStack() as open_ones:
        busy = []
        for number in range(40):
            connection = open_ones.enter_context(connect(small.origin()))
            head = HEAD.replace(b"run-1", b"run-%d" % number).replace(b"KEY", key.text.encode())
            send(connection, [head + b"Content-Length: 38\r\n\r\n" + FORM.replace(b"1900", b"50")])
            busy.append(connection)
        wait_for(lambda: len(small.simulator.posts()) == 40, "all are under way")
        refused = exchange(small.origin(), SECOND, whole=True)
        assert refused.status == 503
        assert json.loads(refused.body)["error"]["code"] == "connections_exhausted"
        small.simulator.heal()
        assert [receive(connection).status for connection in busy] == [200] * 40
    assert charged(small)


def test_a_body_over_the_limit_does_not_hold_the_connection(small: Stack) -> None:
    """413 while it still comes; the rest is dropped, and the next request on the connection is served."""
    key = small.key()
    large = HEAD + b"Content-Length: 9000\r\n\r\n" + b"a" * 5000
    with connect(small.origin()) as connection:
        send(connection, [large.replace(b"KEY", key.text.encode())])
        assert receive(connection).status == 413
        send(connection, [b"a" * 4000])
        send(connection, [(HEAD + SIZED + b"\r\n" + FORM).replace(b"KEY", key.text.encode())])
        assert receive(connection).status == 200
