"""Certificates for tests: authorities, good certificates, and those that must not be taken."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
import trustme

from spendgate.transport import PolicyServerTrust

HERE = "127.0.0.1"


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path

    def replace_with(self, other: Issued) -> None:
        """Put another certificate in the place of this one, as a renewal does."""
        for mine, theirs in ((self.key, other.key), (self.certificate, other.certificate)):
            fresh = mine.with_suffix(".new")
            fresh.write_bytes(theirs.read_bytes())
            fresh.replace(mine)


class Authority:
    """A CA that keeps what it issues in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self._numbers = itertools.count(1)
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str = HERE, *, until: datetime | None = None) -> Issued:
        """Issue a certificate for an address or a name."""
        made = self._ca.issue_cert(
            name, not_before=datetime(2001, 1, 1) if until else None, not_after=until
        )  # trustme takes times without a zone
        number = next(self._numbers)
        issued = Issued(self._folder / f"{number}.pem", self._folder / f"{number}.key")
        issued.key.write_bytes(made.private_key_pem.bytes())
        issued.certificate.write_bytes(b"".join(one.bytes() for one in made.cert_chain_pems))
        return issued

    def credentials(self, client: Issued | None = None) -> grpc.ChannelCredentials:
        """What a caller needs that trusts this authority and may have a certificate of its own."""
        trust = PolicyServerTrust(
            self.file, client.certificate if client else None, client.key if client else None
        )
        made = trust.credentials()
        assert made is not None
        return made
