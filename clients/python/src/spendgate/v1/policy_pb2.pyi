import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from spendgate.v1 import amount_pb2 as _amount_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Window(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW_UNSPECIFIED: _ClassVar[Window]
    WINDOW_CALL: _ClassVar[Window]
    WINDOW_RUN: _ClassVar[Window]
    WINDOW_HOUR: _ClassVar[Window]
    WINDOW_DAY: _ClassVar[Window]
    WINDOW_WEEK: _ClassVar[Window]
    WINDOW_MONTH: _ClassVar[Window]
    WINDOW_TOTAL: _ClassVar[Window]

class PolicyMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_MODE_UNSPECIFIED: _ClassVar[PolicyMode]
    POLICY_MODE_ENFORCE: _ClassVar[PolicyMode]
    POLICY_MODE_SHADOW: _ClassVar[PolicyMode]

class EffectNaming(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_NAMING_UNSPECIFIED: _ClassVar[EffectNaming]
    EFFECT_NAMING_BY_ENDPOINT: _ClassVar[EffectNaming]
    EFFECT_NAMING_BY_PARAMETERS: _ClassVar[EffectNaming]

class RefundRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUND_RULE_UNSPECIFIED: _ClassVar[RefundRule]
    REFUND_RULE_COUNTED: _ClassVar[RefundRule]
    REFUND_RULE_OWN_CAP: _ClassVar[RefundRule]
    REFUND_RULE_RESTORE: _ClassVar[RefundRule]
WINDOW_UNSPECIFIED: Window
WINDOW_CALL: Window
WINDOW_RUN: Window
WINDOW_HOUR: Window
WINDOW_DAY: Window
WINDOW_WEEK: Window
WINDOW_MONTH: Window
WINDOW_TOTAL: Window
POLICY_MODE_UNSPECIFIED: PolicyMode
POLICY_MODE_ENFORCE: PolicyMode
POLICY_MODE_SHADOW: PolicyMode
EFFECT_NAMING_UNSPECIFIED: EffectNaming
EFFECT_NAMING_BY_ENDPOINT: EffectNaming
EFFECT_NAMING_BY_PARAMETERS: EffectNaming
REFUND_RULE_UNSPECIFIED: RefundRule
REFUND_RULE_COUNTED: RefundRule
REFUND_RULE_OWN_CAP: RefundRule
REFUND_RULE_RESTORE: RefundRule

class Policy(_message.Message):
    __slots__ = ("allow", "caps", "currencies", "parameter_rules", "mode", "effects", "expire_time", "budgets", "unpriced", "vendor_accounts", "refunds", "repeated_refusals_max")
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    CAPS_FIELD_NUMBER: _ClassVar[int]
    CURRENCIES_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_RULES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_FIELD_NUMBER: _ClassVar[int]
    VENDOR_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    REFUNDS_FIELD_NUMBER: _ClassVar[int]
    REPEATED_REFUSALS_MAX_FIELD_NUMBER: _ClassVar[int]
    allow: _containers.RepeatedScalarFieldContainer[str]
    caps: _containers.RepeatedCompositeFieldContainer[Cap]
    currencies: _containers.RepeatedScalarFieldContainer[str]
    parameter_rules: _containers.RepeatedCompositeFieldContainer[ParameterRule]
    mode: PolicyMode
    effects: EffectNaming
    expire_time: _timestamp_pb2.Timestamp
    budgets: _containers.RepeatedScalarFieldContainer[str]
    unpriced: _containers.RepeatedScalarFieldContainer[str]
    vendor_accounts: _containers.RepeatedScalarFieldContainer[str]
    refunds: RefundRule
    repeated_refusals_max: int
    def __init__(self, allow: _Optional[_Iterable[str]] = ..., caps: _Optional[_Iterable[_Union[Cap, _Mapping]]] = ..., currencies: _Optional[_Iterable[str]] = ..., parameter_rules: _Optional[_Iterable[_Union[ParameterRule, _Mapping]]] = ..., mode: _Optional[_Union[PolicyMode, str]] = ..., effects: _Optional[_Union[EffectNaming, str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., budgets: _Optional[_Iterable[str]] = ..., unpriced: _Optional[_Iterable[str]] = ..., vendor_accounts: _Optional[_Iterable[str]] = ..., refunds: _Optional[_Union[RefundRule, str]] = ..., repeated_refusals_max: _Optional[int] = ...) -> None: ...

class Cap(_message.Message):
    __slots__ = ("amount", "calls", "window", "time_zone", "endpoints")
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    amount: _amount_pb2.Amount
    calls: int
    window: Window
    time_zone: str
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, amount: _Optional[_Union[_amount_pb2.Amount, _Mapping]] = ..., calls: _Optional[int] = ..., window: _Optional[_Union[Window, str]] = ..., time_zone: _Optional[str] = ..., endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class ParameterRule(_message.Message):
    __slots__ = ("parameter", "one_of", "required", "endpoints")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    ONE_OF_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    one_of: _containers.RepeatedScalarFieldContainer[str]
    required: bool
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parameter: _Optional[str] = ..., one_of: _Optional[_Iterable[str]] = ..., required: bool = ..., endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class CapStatus(_message.Message):
    __slots__ = ("cap", "budget", "currency_code", "limit", "settled", "held", "remaining", "reset_time", "derived_key_id")
    CAP_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_TIME_FIELD_NUMBER: _ClassVar[int]
    DERIVED_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    cap: str
    budget: str
    currency_code: str
    limit: int
    settled: int
    held: int
    remaining: int
    reset_time: _timestamp_pb2.Timestamp
    derived_key_id: str
    def __init__(self, cap: _Optional[str] = ..., budget: _Optional[str] = ..., currency_code: _Optional[str] = ..., limit: _Optional[int] = ..., settled: _Optional[int] = ..., held: _Optional[int] = ..., remaining: _Optional[int] = ..., reset_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., derived_key_id: _Optional[str] = ...) -> None: ...
