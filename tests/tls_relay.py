"""TLS in front of a unix socket: a Redis or a PostgreSQL with TLS, where the programs at hand have none."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.certificates import HERE, Authority, Issued

_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""How a client of PostgreSQL asks for TLS, before its handshake."""


@contextmanager
def tls_relay(
    socket: Path, server: Issued, client_ca: Authority | None = None, *, as_postgres: bool = False
) -> Iterator[int]:
    """Listen with TLS on a port of this machine, which is given, and pass everything on to ``socket``.

    With ``as_postgres`` TLS begins where PostgreSQL has it begin, and nobody is let in without.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca.file)
        context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not as_postgres or await _begun_as_postgres(reader, writer, context):
            await _pass_on(socket, reader, writer)

    listening = loop.run_until_complete(
        asyncio.start_server(carry, HERE, 0, ssl=None if as_postgres else context)
    )
    loop.set_exception_handler(lambda *_: None)  # handshakes that fail are what tests are after
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_close(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _begun_as_postgres(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext
) -> bool:
    try:
        if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
            writer.write(b"S")
            await writer.start_tls(context)
            return True
    except (OSError, asyncio.IncompleteReadError):
        pass
    writer.close()
    return False


async def _pass_on(socket: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
    try:
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
    except OSError:
        pass
    finally:
        inner_writer.close()
        writer.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()


async def _close(listening: asyncio.Server) -> None:
    listening.close()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
