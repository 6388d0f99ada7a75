import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spendgate.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Account(_message.Message):
    __slots__ = ("account", "frozen", "freeze_reason", "budgets")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    FREEZE_REASON_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    account: str
    frozen: bool
    freeze_reason: str
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    def __init__(self, account: _Optional[str] = ..., frozen: bool = ..., freeze_reason: _Optional[str] = ..., budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("name", "caps")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    name: str
    caps: _containers.RepeatedCompositeFieldContainer[_policy_pb2.Cap]
    def __init__(self, name: _Optional[str] = ..., caps: _Optional[_Iterable[_Union[_policy_pb2.Cap, _Mapping]]] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class GetAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class FreezeAccountRequest(_message.Message):
    __slots__ = ("account", "reason")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    account: str
    reason: str
    def __init__(self, account: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FreezeAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class UnfreezeAccountRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class UnfreezeAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class SetBudgetRequest(_message.Message):
    __slots__ = ("account", "budget")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    account: str
    budget: Budget
    def __init__(self, account: _Optional[str] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ...) -> None: ...

class SetBudgetResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class DeleteBudgetRequest(_message.Message):
    __slots__ = ("account", "name")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    account: str
    name: str
    def __init__(self, account: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class DeleteBudgetResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class FrozenRun(_message.Message):
    __slots__ = ("vault_key_id", "run_id", "freeze_time", "reason", "endpoint")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    FREEZE_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    run_id: str
    freeze_time: _timestamp_pb2.Timestamp
    reason: str
    endpoint: str
    def __init__(self, vault_key_id: _Optional[str] = ..., run_id: _Optional[str] = ..., freeze_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., endpoint: _Optional[str] = ...) -> None: ...

class ListFrozenRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account: _Optional[str] = ...) -> None: ...

class ListFrozenRunsResponse(_message.Message):
    __slots__ = ("frozen_runs", "next_page_token")
    FROZEN_RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    frozen_runs: _containers.RepeatedCompositeFieldContainer[FrozenRun]
    next_page_token: str
    def __init__(self, frozen_runs: _Optional[_Iterable[_Union[FrozenRun, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UnfreezeRunRequest(_message.Message):
    __slots__ = ("vault_key_id", "run_id")
    VAULT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    vault_key_id: str
    run_id: str
    def __init__(self, vault_key_id: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class UnfreezeRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
