import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spendgate.v1 import policy_pb2 as _policy_pb2
from spendgate.v1 import policy_service_pb2 as _policy_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RuleVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RULE_VERDICT_UNSPECIFIED: _ClassVar[RuleVerdict]
    RULE_VERDICT_PASSED: _ClassVar[RuleVerdict]
    RULE_VERDICT_BROKEN: _ClassVar[RuleVerdict]
    RULE_VERDICT_NOT_REACHED: _ClassVar[RuleVerdict]

class VaultKeyState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VAULT_KEY_STATE_UNSPECIFIED: _ClassVar[VaultKeyState]
    VAULT_KEY_STATE_ACTIVE: _ClassVar[VaultKeyState]
    VAULT_KEY_STATE_REVOKED: _ClassVar[VaultKeyState]
    VAULT_KEY_STATE_EXPIRED: _ClassVar[VaultKeyState]
RULE_VERDICT_UNSPECIFIED: RuleVerdict
RULE_VERDICT_PASSED: RuleVerdict
RULE_VERDICT_BROKEN: RuleVerdict
RULE_VERDICT_NOT_REACHED: RuleVerdict
VAULT_KEY_STATE_UNSPECIFIED: VaultKeyState
VAULT_KEY_STATE_ACTIVE: VaultKeyState
VAULT_KEY_STATE_REVOKED: VaultKeyState
VAULT_KEY_STATE_EXPIRED: VaultKeyState

class VaultKey(_message.Message):
    __slots__ = ("vault_key_id", "name", "account", "policy", "policy_version", "state", "create_time", "revoke_time", "revoked_derived_key_ids")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKED_DERIVED_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    name: str
    account: str
    policy: _policy_pb2.Policy
    policy_version: int
    state: VaultKeyState
    create_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    revoked_derived_key_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, vault_key_id: _Optional[str] = ..., name: _Optional[str] = ..., account: _Optional[str] = ..., policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ..., policy_version: _Optional[int] = ..., state: _Optional[_Union[VaultKeyState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoked_derived_key_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateVaultKeyRequest(_message.Message):
    __slots__ = ("name", "account", "policy")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    name: str
    account: str
    policy: _policy_pb2.Policy
    def __init__(self, name: _Optional[str] = ..., account: _Optional[str] = ..., policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ...) -> None: ...

class CreateVaultKeyResponse(_message.Message):
    __slots__ = ("secret_vault_key", "vault_key")
    SECRET_VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    secret_vault_key: str
    vault_key: VaultKey
    def __init__(self, secret_vault_key: _Optional[str] = ..., vault_key: _Optional[_Union[VaultKey, _Mapping]] = ...) -> None: ...

class GetVaultKeyRequest(_message.Message):
    __slots__ = ("vault_key_id",)
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    def __init__(self, vault_key_id: _Optional[str] = ...) -> None: ...

class GetVaultKeyResponse(_message.Message):
    __slots__ = ("vault_key",)
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    vault_key: VaultKey
    def __init__(self, vault_key: _Optional[_Union[VaultKey, _Mapping]] = ...) -> None: ...

class ListVaultKeysRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account: _Optional[str] = ...) -> None: ...

class ListVaultKeysResponse(_message.Message):
    __slots__ = ("vault_keys", "next_page_token")
    VAULT_KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    vault_keys: _containers.RepeatedCompositeFieldContainer[VaultKey]
    next_page_token: str
    def __init__(self, vault_keys: _Optional[_Iterable[_Union[VaultKey, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateVaultKeyPolicyRequest(_message.Message):
    __slots__ = ("vault_key_id", "policy", "expected_policy_version")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    policy: _policy_pb2.Policy
    expected_policy_version: int
    def __init__(self, vault_key_id: _Optional[str] = ..., policy: _Optional[_Union[_policy_pb2.Policy, _Mapping]] = ..., expected_policy_version: _Optional[int] = ...) -> None: ...

class UpdateVaultKeyPolicyResponse(_message.Message):
    __slots__ = ("vault_key",)
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    vault_key: VaultKey
    def __init__(self, vault_key: _Optional[_Union[VaultKey, _Mapping]] = ...) -> None: ...

class RevokeVaultKeyRequest(_message.Message):
    __slots__ = ("vault_key_id",)
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    def __init__(self, vault_key_id: _Optional[str] = ...) -> None: ...

class RevokeVaultKeyResponse(_message.Message):
    __slots__ = ("vault_key",)
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    vault_key: VaultKey
    def __init__(self, vault_key: _Optional[_Union[VaultKey, _Mapping]] = ...) -> None: ...

class RevokeDerivedKeyRequest(_message.Message):
    __slots__ = ("vault_key_id", "derived_key_id")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    DERIVED_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    derived_key_id: str
    def __init__(self, vault_key_id: _Optional[str] = ..., derived_key_id: _Optional[str] = ...) -> None: ...

class RevokeDerivedKeyResponse(_message.Message):
    __slots__ = ("vault_key",)
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    vault_key: VaultKey
    def __init__(self, vault_key: _Optional[_Union[VaultKey, _Mapping]] = ...) -> None: ...

class GetVaultKeyUsageRequest(_message.Message):
    __slots__ = ("vault_key_id", "run_id", "derived_key")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    DERIVED_KEY_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    run_id: str
    derived_key: str
    def __init__(self, vault_key_id: _Optional[str] = ..., run_id: _Optional[str] = ..., derived_key: _Optional[str] = ...) -> None: ...

class GetVaultKeyUsageResponse(_message.Message):
    __slots__ = ("vault_key", "caps")
    VAULT_KEY_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    vault_key: VaultKey
    caps: _containers.RepeatedCompositeFieldContainer[_policy_pb2.CapStatus]
    def __init__(self, vault_key: _Optional[_Union[VaultKey, _Mapping]] = ..., caps: _Optional[_Iterable[_Union[_policy_pb2.CapStatus, _Mapping]]] = ...) -> None: ...

class ExplainAuthorizationRequest(_message.Message):
    __slots__ = ("call", "vault_key_id")
    CALL_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    call: _policy_service_pb2.AuthorizeRequest
    vault_key_id: str
    def __init__(self, call: _Optional[_Union[_policy_service_pb2.AuthorizeRequest, _Mapping]] = ..., vault_key_id: _Optional[str] = ...) -> None: ...

class ExplainAuthorizationResponse(_message.Message):
    __slots__ = ("answer", "rules")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    answer: _policy_service_pb2.AuthorizeResponse
    rules: _containers.RepeatedCompositeFieldContainer[ExaminedRule]
    def __init__(self, answer: _Optional[_Union[_policy_service_pb2.AuthorizeResponse, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[ExaminedRule, _Mapping]]] = ...) -> None: ...

class ExaminedRule(_message.Message):
    __slots__ = ("reason", "rule", "verdict", "cap", "needed", "remaining_after")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CAP_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_AFTER_FIELD_NUMBER: _ClassVar[int]
    reason: _policy_service_pb2.DenyReason
    rule: str
    verdict: RuleVerdict
    cap: _policy_pb2.CapStatus
    needed: int
    remaining_after: int
    def __init__(self, reason: _Optional[_Union[_policy_service_pb2.DenyReason, str]] = ..., rule: _Optional[str] = ..., verdict: _Optional[_Union[RuleVerdict, str]] = ..., cap: _Optional[_Union[_policy_pb2.CapStatus, _Mapping]] = ..., needed: _Optional[int] = ..., remaining_after: _Optional[int] = ...) -> None: ...
