import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spendgate.v1 import amount_pb2 as _amount_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_EVENT_KIND_UNSPECIFIED: _ClassVar[AuditEventKind]
    AUDIT_EVENT_KIND_DECISION: _ClassVar[AuditEventKind]
    AUDIT_EVENT_KIND_SETTLEMENT: _ClassVar[AuditEventKind]
    AUDIT_EVENT_KIND_REFUSAL: _ClassVar[AuditEventKind]
    AUDIT_EVENT_KIND_ADMINISTRATION: _ClassVar[AuditEventKind]
AUDIT_EVENT_KIND_UNSPECIFIED: AuditEventKind
AUDIT_EVENT_KIND_DECISION: AuditEventKind
AUDIT_EVENT_KIND_SETTLEMENT: AuditEventKind
AUDIT_EVENT_KIND_REFUSAL: AuditEventKind
AUDIT_EVENT_KIND_ADMINISTRATION: AuditEventKind

class AuditEvent(_message.Message):
    __slots__ = ("sequence", "create_time", "kind", "account", "vault_key_id", "run_id", "step", "endpoint", "amount", "settled_amount", "idempotency_key", "duplicate", "decision", "reason", "rule", "authorization_id", "attempt", "state", "object_id", "vendor_request_id", "http_status", "latency", "overrun", "policy_version", "detail", "vendor_account", "unpriced", "derived_key_id")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    VENDOR_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    VENDOR_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    DERIVED_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    create_time: _timestamp_pb2.Timestamp
    kind: AuditEventKind
    account: str
    vault_key_id: str
    run_id: str
    step: str
    endpoint: str
    amount: _amount_pb2.Amount
    settled_amount: _amount_pb2.Amount
    idempotency_key: str
    duplicate: bool
    decision: str
    reason: str
    rule: str
    authorization_id: str
    attempt: int
    state: str
    object_id: str
    vendor_request_id: str
    http_status: int
    latency: _duration_pb2.Duration
    overrun: bool
    policy_version: int
    detail: str
    vendor_account: str
    unpriced: bool
    derived_key_id: str
    def __init__(self, sequence: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[AuditEventKind, str]] = ..., account: _Optional[str] = ..., vault_key_id: _Optional[str] = ..., run_id: _Optional[str] = ..., step: _Optional[str] = ..., endpoint: _Optional[str] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., settled_amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., duplicate: bool = ..., decision: _Optional[str] = ..., reason: _Optional[str] = ..., rule: _Optional[str] = ..., authorization_id: _Optional[str] = ..., attempt: _Optional[int] = ..., state: _Optional[str] = ..., object_id: _Optional[str] = ..., vendor_request_id: _Optional[str] = ..., http_status: _Optional[int] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., overrun: bool = ..., policy_version: _Optional[int] = ..., detail: _Optional[str] = ..., vendor_account: _Optional[str] = ..., unpriced: bool = ..., derived_key_id: _Optional[str] = ...) -> None: ...

class AuditFilter(_message.Message):
    __slots__ = ("run_id", "vault_key_id", "idempotency_key_prefix", "decision", "kind", "object_id", "start_time", "end_time")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_PREFIX_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    vault_key_id: str
    idempotency_key_prefix: str
    decision: str
    kind: AuditEventKind
    object_id: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, run_id: _Optional[str] = ..., vault_key_id: _Optional[str] = ..., idempotency_key_prefix: _Optional[str] = ..., decision: _Optional[str] = ..., kind: _Optional[_Union[AuditEventKind, str]] = ..., object_id: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListAuditEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account", "filter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account: str
    filter: AuditFilter
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account: _Optional[str] = ..., filter: _Optional[_Union[AuditFilter, _Mapping]] = ...) -> None: ...

class ListAuditEventsResponse(_message.Message):
    __slots__ = ("audit_events", "next_page_token")
    AUDIT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    audit_events: _containers.RepeatedCompositeFieldContainer[AuditEvent]
    next_page_token: str
    def __init__(self, audit_events: _Optional[_Iterable[_Union[AuditEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchAuditEventsRequest(_message.Message):
    __slots__ = ("account", "after_sequence", "filter")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    account: str
    after_sequence: int
    filter: AuditFilter
    def __init__(self, account: _Optional[str] = ..., after_sequence: _Optional[int] = ..., filter: _Optional[_Union[AuditFilter, _Mapping]] = ...) -> None: ...

class WatchAuditEventsResponse(_message.Message):
    __slots__ = ("audit_event", "sequence")
    AUDIT_EVENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    audit_event: AuditEvent
    sequence: int
    def __init__(self, audit_event: _Optional[_Union[AuditEvent, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class ExportAuditEventsRequest(_message.Message):
    __slots__ = ("account", "after_sequence")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    account: str
    after_sequence: int
    def __init__(self, account: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class ExportAuditEventsResponse(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lines: _Optional[_Iterable[str]] = ...) -> None: ...

class GetAuditArchiveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetAuditArchiveResponse(_message.Message):
    __slots__ = ("problem", "backlog_max", "accounts", "public_key")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_MAX_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    problem: str
    backlog_max: int
    accounts: _containers.RepeatedCompositeFieldContainer[AuditArchiveProgress]
    public_key: str
    def __init__(self, problem: _Optional[str] = ..., backlog_max: _Optional[int] = ..., accounts: _Optional[_Iterable[_Union[AuditArchiveProgress, _Mapping]]] = ..., public_key: _Optional[str] = ...) -> None: ...

class AuditArchiveProgress(_message.Message):
    __slots__ = ("account", "sequence", "archived_sequence", "backlog", "archived_hash")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BACKLOG_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_HASH_FIELD_NUMBER: _ClassVar[int]
    account: str
    sequence: int
    archived_sequence: int
    backlog: int
    archived_hash: str
    def __init__(self, account: _Optional[str] = ..., sequence: _Optional[int] = ..., archived_sequence: _Optional[int] = ..., backlog: _Optional[int] = ..., archived_hash: _Optional[str] = ...) -> None: ...

class CreateAuditCheckpointRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class CreateAuditCheckpointResponse(_message.Message):
    __slots__ = ("audit_checkpoint", "public_key")
    AUDIT_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    audit_checkpoint: AuditCheckpoint
    public_key: str
    def __init__(self, audit_checkpoint: _Optional[_Union[AuditCheckpoint, _Mapping]] = ..., public_key: _Optional[str] = ...) -> None: ...

class AuditCheckpoint(_message.Message):
    __slots__ = ("account", "sequence", "hash", "create_time", "key_id", "signature")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    account: str
    sequence: int
    hash: str
    create_time: _timestamp_pb2.Timestamp
    key_id: str
    signature: str
    def __init__(self, account: _Optional[str] = ..., sequence: _Optional[int] = ..., hash: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., key_id: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...

class AcceptAuditLossRequest(_message.Message):
    __slots__ = ("account", "reason")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    account: str
    reason: str
    def __init__(self, account: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class AcceptAuditLossResponse(_message.Message):
    __slots__ = ("first_sequence", "last_sequence")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    last_sequence: int
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ...) -> None: ...
