from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ledger(_message.Message):
    __slots__ = ("account", "lost", "epoch", "sequence", "known_sequence", "archived_sequence", "rebuilt_elsewhere")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REBUILT_ELSEWHERE_FIELD_NUMBER: _ClassVar[int]
    account: str
    lost: bool
    epoch: str
    sequence: int
    known_sequence: int
    archived_sequence: int
    rebuilt_elsewhere: bool
    def __init__(self, account: _Optional[str] = ..., lost: bool = ..., epoch: _Optional[str] = ..., sequence: _Optional[int] = ..., known_sequence: _Optional[int] = ..., archived_sequence: _Optional[int] = ..., rebuilt_elsewhere: bool = ...) -> None: ...

class ListLedgersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLedgersResponse(_message.Message):
    __slots__ = ("ledgers",)
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    ledgers: _containers.RepeatedCompositeFieldContainer[Ledger]
    def __init__(self, ledgers: _Optional[_Iterable[_Union[Ledger, _Mapping]]] = ...) -> None: ...

class RebuildLedgerRequest(_message.Message):
    __slots__ = ("account", "freeze")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    account: str
    freeze: bool
    def __init__(self, account: _Optional[str] = ..., freeze: bool = ...) -> None: ...

class RebuildLedgerResponse(_message.Message):
    __slots__ = ("account", "sequence", "vault_keys", "holds", "open_holds", "counters", "exposures", "events_from_store", "lost_events", "events_set_aside")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VAULT_KEYS_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    OPEN_HOLDS_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FROM_STORE_FIELD_NUMBER: _ClassVar[int]
    LOST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    account: str
    sequence: int
    vault_keys: int
    holds: int
    open_holds: int
    counters: int
    exposures: int
    events_from_store: int
    lost_events: int
    events_set_aside: int
    def __init__(self, account: _Optional[str] = ..., sequence: _Optional[int] = ..., vault_keys: _Optional[int] = ..., holds: _Optional[int] = ..., open_holds: _Optional[int] = ..., counters: _Optional[int] = ..., exposures: _Optional[int] = ..., events_from_store: _Optional[int] = ..., lost_events: _Optional[int] = ..., events_set_aside: _Optional[int] = ...) -> None: ...
