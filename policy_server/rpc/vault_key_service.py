"""VaultKeyService: convert, ask the core, convert."""

from __future__ import annotations

from policy_server.core.administration import Administration
from policy_server.core.errors import FieldInvalid
from policy_server.core.explainer import Explainer
from policy_server.core.ports import KeyRecord
from policy_server.rpc import convert
from policy_server.rpc.status import Context
from spendgate.v1 import vault_key_service_pb2 as pb
from spendgate.v1 import vault_key_service_pb2_grpc


class VaultKeyServicer(vault_key_service_pb2_grpc.VaultKeyServiceServicer):
    """Makes, shows, changes and revokes vault keys, and explains what they may do."""

    def __init__(self, administration: Administration, explainer: Explainer) -> None:
        self._administration = administration
        self._explainer = explainer

    async def CreateVaultKey(
        self, request: pb.CreateVaultKeyRequest, context: Context
    ) -> pb.CreateVaultKeyResponse:
        """Make a vault key and show its secret for the only time."""
        convert.refuse_unknown_fields(request, "request")
        if not request.HasField("policy"):
            raise FieldInvalid("policy", "must be given")
        made = await self._administration.create_key(
            request.name, request.account, convert.policy(request.policy)
        )
        return pb.CreateVaultKeyResponse(secret_vault_key=made.key.text, vault_key=self._message(made.record))

    async def GetVaultKey(self, request: pb.GetVaultKeyRequest, context: Context) -> pb.GetVaultKeyResponse:
        """Show one vault key."""
        record = await self._administration.get_key(request.vault_key_id)
        return pb.GetVaultKeyResponse(vault_key=self._message(record))

    async def ListVaultKeys(
        self, request: pb.ListVaultKeysRequest, context: Context
    ) -> pb.ListVaultKeysResponse:
        """List the vault keys of an account."""
        size = convert.page_size(request.page_size)
        offset = convert.page_token(request.page_token) or 0
        records = await self._administration.list_keys(request.account, offset, size + 1)
        return pb.ListVaultKeysResponse(
            vault_keys=[self._message(record) for record in records[:size]],
            next_page_token=str(offset + size) if len(records) > size else "",
        )

    async def UpdateVaultKeyPolicy(
        self, request: pb.UpdateVaultKeyPolicyRequest, context: Context
    ) -> pb.UpdateVaultKeyPolicyResponse:
        """Replace a vault key's policy."""
        convert.refuse_unknown_fields(request, "request")
        if not request.HasField("policy"):
            raise FieldInvalid("policy", "must be given")
        record = await self._administration.update_policy(
            request.vault_key_id, convert.policy(request.policy), request.expected_policy_version
        )
        return pb.UpdateVaultKeyPolicyResponse(vault_key=self._message(record))

    async def RevokeVaultKey(
        self, request: pb.RevokeVaultKeyRequest, context: Context
    ) -> pb.RevokeVaultKeyResponse:
        """End a vault key."""
        record = await self._administration.revoke_key(request.vault_key_id)
        return pb.RevokeVaultKeyResponse(vault_key=self._message(record))

    async def RevokeDerivedKey(
        self, request: pb.RevokeDerivedKeyRequest, context: Context
    ) -> pb.RevokeDerivedKeyResponse:
        """End one derived key."""
        record = await self._administration.revoke_derived_key(request.vault_key_id, request.derived_key_id)
        return pb.RevokeDerivedKeyResponse(vault_key=self._message(record))

    async def GetVaultKeyUsage(
        self, request: pb.GetVaultKeyUsageRequest, context: Context
    ) -> pb.GetVaultKeyUsageResponse:
        """Show how full the caps of a vault key are."""
        record, statuses = await self._administration.usage(
            request.vault_key_id, request.run_id, request.derived_key
        )
        return pb.GetVaultKeyUsageResponse(
            vault_key=self._message(record), caps=[convert.cap_status(status) for status in statuses]
        )

    async def ExplainAuthorization(
        self, request: pb.ExplainAuthorizationRequest, context: Context
    ) -> pb.ExplainAuthorizationResponse:
        """Say what would be decided on a call, and why."""
        convert.refuse_unknown_fields(request, "request")
        if not request.HasField("call"):
            raise FieldInvalid("call", "must be given")
        call = convert.spend_call(request.call, by_key_id=bool(request.vault_key_id))
        return convert.explanation(await self._explainer.explain(call, request.vault_key_id))

    def _message(self, record: KeyRecord) -> pb.VaultKey:
        return convert.vault_key(record, self._administration.state(record))
