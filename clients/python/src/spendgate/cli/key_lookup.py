"""Finds the vault key that an operator means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import grpc
import typer

from spendgate import derived_keys
from spendgate.cli.connection import PolicyServer, RequestFailed
from spendgate.cli.failure import CommandFailed
from spendgate.v1 import vault_key_service_pb2 as pb

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_ID", help="Name of a vault key that is not revoked, or the public id of any."
    ),
]

_ID = re.compile(r"[a-z2-7]{12}")
_SECRET_KEY = re.compile(r"vk_([a-z2-7]{12})_.*", re.DOTALL)
_PAGE_SIZE = 1000


def vault_keys(server: PolicyServer) -> Iterator[pb.VaultKey]:
    """Yield every vault key of the account, oldest first."""
    request = pb.ListVaultKeysRequest(page_size=_PAGE_SIZE, account=server.account)
    while True:
        page = server.call(server.vault_keys.ListVaultKeys, request)
        yield from page.vault_keys
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def find_parent(server: PolicyServer, name_or_id: str) -> pb.VaultKey:
    """Return what `find_key` does, and say on standard error when that is the parent of a derived key."""
    found = find_key(server, name_or_id)
    if derived := derived_keys.derived_key_id(name_or_id):
        typer.echo(
            f"spendgate: the key {derived} is derived from {found.name} ({found.vault_key_id}), which is "
            "shown; 'spendgate explain' tells what the derived key may do and has left",
            err=True,
        )
    return found


def find_key(server: PolicyServer, name_or_id: str) -> pb.VaultKey:
    """Return the vault key with this id, else the one with this name that is not revoked.

    A whole vault key is taken for its id, so that a leaked one can be revoked as
    it was found. Raises `CommandFailed` when there is none.
    """
    whole = _SECRET_KEY.fullmatch(name_or_id)
    if whole:
        return server.call(
            server.vault_keys.GetVaultKey, pb.GetVaultKeyRequest(vault_key_id=whole[1])
        ).vault_key
    by_id = _find_id(server, name_or_id) if _ID.fullmatch(name_or_id) else None
    if by_id is not None:
        return by_id
    revoked = ""
    for key in vault_keys(server):
        if key.name != name_or_id:
            continue
        if key.state != pb.VAULT_KEY_STATE_REVOKED:
            return key
        revoked = key.vault_key_id
    if revoked:
        raise CommandFailed(f"the vault key named {name_or_id!r} is revoked; name it by its id, {revoked}")
    raise CommandFailed(
        f"the account {server.account!r} has no vault key with the name or id {name_or_id!r}; "
        "'spendgate keys list' shows those it has"
    )


def _find_id(server: PolicyServer, key_id: str) -> pb.VaultKey | None:
    try:
        return server.call(
            server.vault_keys.GetVaultKey, pb.GetVaultKeyRequest(vault_key_id=key_id)
        ).vault_key
    except RequestFailed as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            return None
        raise
