"""Says which settings can't be used, by the names that whoever sets them knows. Needs ``pydantic``."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import AliasChoices, BaseModel, ValidationError


def problems(
    settings: type[BaseModel], error: ValidationError, *, given_as_option: Collection[str] | None = None
) -> list[str]:
    """Return a line for each setting that can't be used, without its value, which may be a secret.

    A setting is named by its variable and its option; where ``given_as_option``
    says which fields were given by option, by the one of the two that was used.
    """
    return [
        f"{_named(settings, str(one['loc'][0]), given_as_option)}: {_said(one['msg'], one['type'])}"
        if one["loc"]
        else _said(one["msg"], one["type"])
        for one in error.errors(include_input=False, include_url=False)
    ]


def _named(settings: type[BaseModel], told: str, given_as_option: Collection[str] | None) -> str:
    field = next((name for name in settings.model_fields if told in {name, *_aliases(settings, name)}), told)
    prefix = str(settings.model_config.get("env_prefix", ""))
    variable = next(iter(_aliases(settings, field)), f"{prefix}{field.upper()}")
    option = f"--{field.replace('_', '-')}"
    if given_as_option is None:
        return f"{variable} ({option})"
    return option if field in given_as_option else variable


def _aliases(settings: type[BaseModel], field: str) -> list[str]:
    info = settings.model_fields.get(field)
    alias = info.validation_alias if info else None
    return [str(one) for one in alias.choices] if isinstance(alias, AliasChoices) else []


def _said(message: str, kind: str) -> str:
    return "must be set" if kind == "missing" else message.removeprefix("Value error, ")
