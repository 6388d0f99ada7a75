"""Which gRPC code and ErrorInfo each error of the core becomes."""

from __future__ import annotations

import typing
from typing import NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from policy_server.core import errors
from spendgate.v1 import policy_service_pb2
from spendgate.v1.error_reason_pb2 import ErrorReason

if typing.TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[typing.Any, typing.Any]
else:
    Context = grpc.aio.ServicerContext

DOMAIN = "spendgate"

_CODES: dict[type[errors.SpendgateError], tuple[int, ErrorReason]] = {
    errors.FieldInvalid: (code_pb2.INVALID_ARGUMENT, ErrorReason.ERROR_REASON_FIELD_INVALID),
    errors.StoreUnavailable: (code_pb2.UNAVAILABLE, ErrorReason.ERROR_REASON_STORE_UNAVAILABLE),
    errors.ArchiveUnavailable: (code_pb2.UNAVAILABLE, ErrorReason.ERROR_REASON_ARCHIVE_UNAVAILABLE),
    errors.LedgerLost: (code_pb2.UNAVAILABLE, ErrorReason.ERROR_REASON_LEDGER_LOST),
    errors.LedgerPresent: (code_pb2.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_LEDGER_PRESENT),
    errors.ArchiveBroken: (code_pb2.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_ARCHIVE_BROKEN),
    errors.AuditBacklogFull: (code_pb2.UNAVAILABLE, ErrorReason.ERROR_REASON_AUDIT_BACKLOG_FULL),
    errors.NothingLost: (code_pb2.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_NOTHING_LOST),
    errors.VaultKeyNotFound: (code_pb2.NOT_FOUND, ErrorReason.ERROR_REASON_VAULT_KEY_NOT_FOUND),
    errors.VaultKeyIsRevoked: (code_pb2.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_VAULT_KEY_REVOKED),
    errors.NameTaken: (code_pb2.ALREADY_EXISTS, ErrorReason.ERROR_REASON_NAME_TAKEN),
    errors.VersionConflict: (code_pb2.ABORTED, ErrorReason.ERROR_REASON_VERSION_CONFLICT),
    errors.BudgetNotFound: (code_pb2.NOT_FOUND, ErrorReason.ERROR_REASON_BUDGET_NOT_FOUND),
    errors.RunNotFrozen: (code_pb2.NOT_FOUND, ErrorReason.ERROR_REASON_RUN_NOT_FROZEN),
    errors.HoldNotFound: (code_pb2.NOT_FOUND, ErrorReason.ERROR_REASON_HOLD_NOT_FOUND),
    errors.HoldClosed: (code_pb2.FAILED_PRECONDITION, ErrorReason.ERROR_REASON_HOLD_CLOSED),
}


def reason_name(reason: ErrorReason) -> str:
    """Return the name of a reason as ErrorInfo has it."""
    return ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


async def abort(context: Context, error: errors.SpendgateError) -> NoReturn:
    """End the call with the status of ``error``."""
    code, reason = next(_CODES[one] for one in type(error).__mro__ if one in _CODES)
    await abort_with(context, code, reason, error.message, error.metadata)


async def abort_with(
    context: Context,
    code: int,
    reason: ErrorReason,
    message: str,
    metadata: dict[str, str] | None = None,
) -> NoReturn:
    """End the call with a status that has one ErrorInfo."""
    detail = Any()
    detail.Pack(
        error_details_pb2.ErrorInfo(reason=reason_name(reason), domain=DOMAIN, metadata=metadata or {})
    )
    status = status_pb2.Status(code=code, message=message, details=[detail])
    await context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status always raises")


def item_error(error: errors.SpendgateError) -> policy_service_pb2.ItemError:
    """Return ``error`` as an item of a batch has it."""
    code, reason = next(_CODES[one] for one in type(error).__mro__ if one in _CODES)
    return policy_service_pb2.ItemError(code=code, reason=reason_name(reason), message=error.message)
