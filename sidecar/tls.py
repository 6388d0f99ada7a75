"""TLS for the sidecar's own listener, with a certificate that may be replaced while it runs."""

from __future__ import annotations

import ssl

from spendgate.transport import PemFiles


def listener_context(files: PemFiles) -> ssl.SSLContext:
    """Return what the listener uses; raises `spendgate.transport.TransportUnsafe`.

    Before each handshake it looks whether the files have changed.
    """
    files.read()
    current = _context(files)

    def use_newest(connection: ssl.SSLObject, server_name: str | None, context: ssl.SSLContext) -> None:
        nonlocal current
        if files.read_if_changed() is not None:
            current = _context(files)
        connection.context = current

    first = current
    first.sni_callback = use_newest
    return first


def _context(files: PemFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["http/1.1"])
    if files.trusted is not None:
        context.load_verify_locations(files.trusted)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
