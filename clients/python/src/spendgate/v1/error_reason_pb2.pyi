from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_FIELD_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_STORE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_NOT_SUFFICIENT: _ClassVar[ErrorReason]
    ERROR_REASON_VAULT_KEY_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_NAME_TAKEN: _ClassVar[ErrorReason]
    ERROR_REASON_VERSION_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_HOLD_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_HOLD_CLOSED: _ClassVar[ErrorReason]
    ERROR_REASON_BUDGET_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_VAULT_KEY_REVOKED: _ClassVar[ErrorReason]
    ERROR_REASON_ARCHIVE_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_LEDGER_LOST: _ClassVar[ErrorReason]
    ERROR_REASON_AUDIT_BACKLOG_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_LEDGER_PRESENT: _ClassVar[ErrorReason]
    ERROR_REASON_ARCHIVE_BROKEN: _ClassVar[ErrorReason]
    ERROR_REASON_NOTHING_LOST: _ClassVar[ErrorReason]
    ERROR_REASON_RUN_NOT_FROZEN: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_FIELD_INVALID: ErrorReason
ERROR_REASON_STORE_UNAVAILABLE: ErrorReason
ERROR_REASON_TOKEN_INVALID: ErrorReason
ERROR_REASON_TOKEN_NOT_SUFFICIENT: ErrorReason
ERROR_REASON_VAULT_KEY_NOT_FOUND: ErrorReason
ERROR_REASON_NAME_TAKEN: ErrorReason
ERROR_REASON_VERSION_CONFLICT: ErrorReason
ERROR_REASON_HOLD_NOT_FOUND: ErrorReason
ERROR_REASON_HOLD_CLOSED: ErrorReason
ERROR_REASON_BUDGET_NOT_FOUND: ErrorReason
ERROR_REASON_VAULT_KEY_REVOKED: ErrorReason
ERROR_REASON_ARCHIVE_UNAVAILABLE: ErrorReason
ERROR_REASON_LEDGER_LOST: ErrorReason
ERROR_REASON_AUDIT_BACKLOG_FULL: ErrorReason
ERROR_REASON_LEDGER_PRESENT: ErrorReason
ERROR_REASON_ARCHIVE_BROKEN: ErrorReason
ERROR_REASON_NOTHING_LOST: ErrorReason
ERROR_REASON_RUN_NOT_FROZEN: ErrorReason
