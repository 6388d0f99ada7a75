import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spendgate.v1 import amount_pb2 as _amount_pb2
from spendgate.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_UNSPECIFIED: _ClassVar[Decision]
    DECISION_ALLOW: _ClassVar[Decision]
    DECISION_DENY: _ClassVar[Decision]

class DenyReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DENY_REASON_UNSPECIFIED: _ClassVar[DenyReason]
    DENY_REASON_VAULT_KEY_UNKNOWN: _ClassVar[DenyReason]
    DENY_REASON_VAULT_KEY_REVOKED: _ClassVar[DenyReason]
    DENY_REASON_VAULT_KEY_EXPIRED: _ClassVar[DenyReason]
    DENY_REASON_ACCOUNT_FROZEN: _ClassVar[DenyReason]
    DENY_REASON_ENDPOINT_NOT_ALLOWED: _ClassVar[DenyReason]
    DENY_REASON_CURRENCY_NOT_ALLOWED: _ClassVar[DenyReason]
    DENY_REASON_PARAMETER_NOT_ALLOWED: _ClassVar[DenyReason]
    DENY_REASON_RUN_ID_REQUIRED: _ClassVar[DenyReason]
    DENY_REASON_IDEMPOTENCY_MISMATCH: _ClassVar[DenyReason]
    DENY_REASON_EFFECT_TOO_OLD: _ClassVar[DenyReason]
    DENY_REASON_AMOUNT_UNKNOWN: _ClassVar[DenyReason]
    DENY_REASON_CAP_EXCEEDED: _ClassVar[DenyReason]
    DENY_REASON_VENDOR_ACCOUNT_NOT_ALLOWED: _ClassVar[DenyReason]
    DENY_REASON_RUN_FROZEN: _ClassVar[DenyReason]
    DENY_REASON_RUN_NOT_ALLOWED: _ClassVar[DenyReason]

class Replay(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLAY_UNSPECIFIED: _ClassVar[Replay]
    REPLAY_JOIN: _ClassVar[Replay]
    REPLAY_FORWARD: _ClassVar[Replay]
    REPLAY_FETCH: _ClassVar[Replay]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_SUCCEEDED: _ClassVar[Outcome]
    OUTCOME_FAILED: _ClassVar[Outcome]
    OUTCOME_UNKNOWN: _ClassVar[Outcome]

class HoldState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_STATE_UNSPECIFIED: _ClassVar[HoldState]
    HOLD_STATE_HELD: _ClassVar[HoldState]
    HOLD_STATE_SETTLED: _ClassVar[HoldState]
    HOLD_STATE_RELEASED: _ClassVar[HoldState]
    HOLD_STATE_UNKNOWN: _ClassVar[HoldState]
DECISION_UNSPECIFIED: Decision
DECISION_ALLOW: Decision
DECISION_DENY: Decision
DENY_REASON_UNSPECIFIED: DenyReason
DENY_REASON_VAULT_KEY_UNKNOWN: DenyReason
DENY_REASON_VAULT_KEY_REVOKED: DenyReason
DENY_REASON_VAULT_KEY_EXPIRED: DenyReason
DENY_REASON_ACCOUNT_FROZEN: DenyReason
DENY_REASON_ENDPOINT_NOT_ALLOWED: DenyReason
DENY_REASON_CURRENCY_NOT_ALLOWED: DenyReason
DENY_REASON_PARAMETER_NOT_ALLOWED: DenyReason
DENY_REASON_RUN_ID_REQUIRED: DenyReason
DENY_REASON_IDEMPOTENCY_MISMATCH: DenyReason
DENY_REASON_EFFECT_TOO_OLD: DenyReason
DENY_REASON_AMOUNT_UNKNOWN: DenyReason
DENY_REASON_CAP_EXCEEDED: DenyReason
DENY_REASON_VENDOR_ACCOUNT_NOT_ALLOWED: DenyReason
DENY_REASON_RUN_FROZEN: DenyReason
DENY_REASON_RUN_NOT_ALLOWED: DenyReason
REPLAY_UNSPECIFIED: Replay
REPLAY_JOIN: Replay
REPLAY_FORWARD: Replay
REPLAY_FETCH: Replay
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_SUCCEEDED: Outcome
OUTCOME_FAILED: Outcome
OUTCOME_UNKNOWN: Outcome
HOLD_STATE_UNSPECIFIED: HoldState
HOLD_STATE_HELD: HoldState
HOLD_STATE_SETTLED: HoldState
HOLD_STATE_RELEASED: HoldState
HOLD_STATE_UNKNOWN: HoldState

class AuthorizeRequest(_message.Message):
    __slots__ = ("vault_key", "endpoint", "amount", "run_id", "idempotency_key", "request_fingerprint", "step", "validate_only", "request_id", "object_id", "hold_ttl", "parameters", "moves_money", "vendor_account", "absorbed_object_ids", "refunded_object_id", "unpriced", "sender")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_TTL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MOVES_MONEY_FIELD_NUMBER: _ClassVar[int]
    VENDOR_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ABSORBED_OBJECT_IDS_FIELD_NUMBER: _ClassVar[int]
    REFUNDED_OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    vault_key: str
    endpoint: str
    amount: _amount_pb2.Amount
    run_id: str
    idempotency_key: str
    request_fingerprint: str
    step: str
    validate_only: bool
    request_id: str
    object_id: str
    hold_ttl: _duration_pb2.Duration
    parameters: _containers.ScalarMap[str, str]
    moves_money: bool
    vendor_account: str
    absorbed_object_ids: _containers.RepeatedScalarFieldContainer[str]
    refunded_object_id: str
    unpriced: bool
    sender: str
    def __init__(self, vault_key: _Optional[str] = ..., endpoint: _Optional[str] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., run_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., request_fingerprint: _Optional[str] = ..., step: _Optional[str] = ..., validate_only: bool = ..., request_id: _Optional[str] = ..., object_id: _Optional[str] = ..., hold_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., moves_money: bool = ..., vendor_account: _Optional[str] = ..., absorbed_object_ids: _Optional[_Iterable[str]] = ..., refunded_object_id: _Optional[str] = ..., unpriced: bool = ..., sender: _Optional[str] = ...) -> None: ...

class AuthorizeResponse(_message.Message):
    __slots__ = ("decision", "deny_reason", "message", "authorization_id", "attempt", "duplicate", "replay", "idempotency_key", "upstream_idempotency_key", "object_id", "caps", "expire_time", "policy_version", "rule", "allowed_endpoints", "vault_key_id", "shadow_deny_reason", "amount", "retry_time", "run_frozen")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    DENY_REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SHADOW_DENY_REASON_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    RUN_FROZEN_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    deny_reason: DenyReason
    message: str
    authorization_id: str
    attempt: int
    duplicate: bool
    replay: Replay
    idempotency_key: str
    upstream_idempotency_key: str
    object_id: str
    caps: _containers.RepeatedCompositeFieldContainer[_policy_pb2.CapStatus]
    expire_time: _timestamp_pb2.Timestamp
    policy_version: int
    rule: str
    allowed_endpoints: _containers.RepeatedScalarFieldContainer[str]
    vault_key_id: str
    shadow_deny_reason: DenyReason
    amount: _amount_pb2.Amount
    retry_time: _timestamp_pb2.Timestamp
    run_frozen: bool
    def __init__(self, decision: _Optional[_Union[Decision, str]] = ..., deny_reason: _Optional[_Union[DenyReason, str]] = ..., message: _Optional[str] = ..., authorization_id: _Optional[str] = ..., attempt: _Optional[int] = ..., duplicate: bool = ..., replay: _Optional[_Union[Replay, str]] = ..., idempotency_key: _Optional[str] = ..., upstream_idempotency_key: _Optional[str] = ..., object_id: _Optional[str] = ..., caps: _Optional[_Iterable[_Union[_policy_pb2.CapStatus, _Mapping]]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy_version: _Optional[int] = ..., rule: _Optional[str] = ..., allowed_endpoints: _Optional[_Iterable[str]] = ..., vault_key_id: _Optional[str] = ..., shadow_deny_reason: _Optional[_Union[DenyReason, str]] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., run_frozen: bool = ...) -> None: ...

class BatchAuthorizeRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[AuthorizeRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[AuthorizeRequest, _Mapping]]] = ...) -> None: ...

class BatchAuthorizeResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AuthorizeResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AuthorizeResult, _Mapping]]] = ...) -> None: ...

class StreamAuthorizeRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[AuthorizeRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[AuthorizeRequest, _Mapping]]] = ...) -> None: ...

class StreamAuthorizeResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AuthorizeResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AuthorizeResult, _Mapping]]] = ...) -> None: ...

class AuthorizeResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: AuthorizeResponse
    error: ItemError
    def __init__(self, response: _Optional[_Union[AuthorizeResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("authorization_id", "attempt", "outcome", "amount", "object_id", "vendor_request_id", "http_status", "latency", "stale", "counted_object_id", "evidence", "unless_sent_after", "replayed")
    AUTHORIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    VENDOR_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    COUNTED_OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    UNLESS_SENT_AFTER_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    authorization_id: str
    attempt: int
    outcome: Outcome
    amount: _amount_pb2.Amount
    object_id: str
    vendor_request_id: str
    http_status: int
    latency: _duration_pb2.Duration
    stale: bool
    counted_object_id: str
    evidence: str
    unless_sent_after: _timestamp_pb2.Timestamp
    replayed: bool
    def __init__(self, authorization_id: _Optional[str] = ..., attempt: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., object_id: _Optional[str] = ..., vendor_request_id: _Optional[str] = ..., http_status: _Optional[int] = ..., latency: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., stale: bool = ..., counted_object_id: _Optional[str] = ..., evidence: _Optional[str] = ..., unless_sent_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("state", "overrun")
    STATE_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_FIELD_NUMBER: _ClassVar[int]
    state: HoldState
    overrun: bool
    def __init__(self, state: _Optional[_Union[HoldState, str]] = ..., overrun: bool = ...) -> None: ...

class BatchSettleRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SettleRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SettleRequest, _Mapping]]] = ...) -> None: ...

class BatchSettleResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class SettleResult(_message.Message):
    __slots__ = ("response", "error")
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    response: SettleResponse
    error: ItemError
    def __init__(self, response: _Optional[_Union[SettleResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class BatchRecordObservationsRequest(_message.Message):
    __slots__ = ("observations",)
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    observations: _containers.RepeatedCompositeFieldContainer[Observation]
    def __init__(self, observations: _Optional[_Iterable[_Union[Observation, _Mapping]]] = ...) -> None: ...

class BatchRecordObservationsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Observation(_message.Message):
    __slots__ = ("vault_key_id", "object_id", "amount")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    object_id: str
    amount: _amount_pb2.Amount
    def __init__(self, vault_key_id: _Optional[str] = ..., object_id: _Optional[str] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ...) -> None: ...

class BatchRecordRefusalsRequest(_message.Message):
    __slots__ = ("refusals",)
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...

class BatchRecordRefusalsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("vault_key_id", "endpoint", "run_id", "code", "http_status", "refuse_time")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    REFUSE_TIME_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    endpoint: str
    run_id: str
    code: str
    http_status: int
    refuse_time: _timestamp_pb2.Timestamp
    def __init__(self, vault_key_id: _Optional[str] = ..., endpoint: _Optional[str] = ..., run_id: _Optional[str] = ..., code: _Optional[str] = ..., http_status: _Optional[int] = ..., refuse_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListUnresolvedHoldsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account: _Optional[str] = ...) -> None: ...

class ListUnresolvedHoldsResponse(_message.Message):
    __slots__ = ("holds", "next_page_token", "read_time")
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    READ_TIME_FIELD_NUMBER: _ClassVar[int]
    holds: _containers.RepeatedCompositeFieldContainer[UnresolvedHold]
    next_page_token: str
    read_time: _timestamp_pb2.Timestamp
    def __init__(self, holds: _Optional[_Iterable[_Union[UnresolvedHold, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., read_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class UnresolvedHold(_message.Message):
    __slots__ = ("authorization_id", "attempt", "account", "vault_key_id", "run_id", "step", "endpoint", "vendor_account", "amount", "held_amount", "idempotency_key", "upstream_idempotency_key", "object_id", "sender", "hold_time", "last_send_time")
    AUTHORIZATION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    VENDOR_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    HELD_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    HOLD_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEND_TIME_FIELD_NUMBER: _ClassVar[int]
    authorization_id: str
    attempt: int
    account: str
    vault_key_id: str
    run_id: str
    step: str
    endpoint: str
    vendor_account: str
    amount: _amount_pb2.Amount
    held_amount: _amount_pb2.Amount
    idempotency_key: str
    upstream_idempotency_key: str
    object_id: str
    sender: str
    hold_time: _timestamp_pb2.Timestamp
    last_send_time: _timestamp_pb2.Timestamp
    def __init__(self, authorization_id: _Optional[str] = ..., attempt: _Optional[int] = ..., account: _Optional[str] = ..., vault_key_id: _Optional[str] = ..., run_id: _Optional[str] = ..., step: _Optional[str] = ..., endpoint: _Optional[str] = ..., vendor_account: _Optional[str] = ..., amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., held_amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., upstream_idempotency_key: _Optional[str] = ..., object_id: _Optional[str] = ..., sender: _Optional[str] = ..., hold_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_send_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
