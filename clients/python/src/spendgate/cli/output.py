"""Prints results: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spendgate import currencies
from spendgate.v1 import amount_pb2

AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON instead, with amounts as strings of minor units.", show_default=False
    ),
]

_WIDTH_ELSEWHERE = 240
"""Columns when nobody looks at a terminal: wide enough that no row of a table wraps."""

_ANY_WIDTH = 10_000
"""Columns to measure a table by that may be as wide as it likes."""


def console() -> Console:
    """Return the console of standard output."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_ELSEWHERE, highlight=False)


def as_dict(message: Message) -> dict[str, Any]:
    """Return `message` as proto JSON; every field that is not optional is there."""
    return MessageToDict(message, always_print_fields_with_no_presence=True)


def print_json(document: object, *, on_one_line: bool = False) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=None if on_one_line else 2, ensure_ascii=False))


def print_line(line: str) -> None:
    """Print one line as it is: no markup, no wrapping, so that it can be copied."""
    console().print(Text(line), soft_wrap=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()
) -> None:
    """Print a table; the columns in `numbers` are aligned to the right.

    Where the terminal is too narrow for it, every row is printed as names and values instead: a cell that
    is broken in two can't be read or copied.
    """
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    shown = list(rows)
    for row in shown:
        # Text, because a name may hold what rich would take for markup.
        table.add_row(*(Text(cell) for cell in row))
    target = console()
    natural = target.measure(table, options=target.options.update(max_width=_ANY_WIDTH)).maximum
    if natural <= target.width or not sys.stdout.isatty():
        target.print(table)
        return
    for row in shown:
        _print_record(columns, row)


def _print_record(columns: Sequence[str], row: Sequence[str]) -> None:
    margin = max(map(len, columns)) + 2
    for name, cell in zip(columns, row, strict=True):
        if cell:
            print_line(f"{name:<{margin}}" + cell.replace("\n", "\n" + " " * margin))
    print_line("")


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other; empty values are left out."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields:
        if value:
            table.add_row(name, Text(value))
    console().print(table)


def time_text(moment: Timestamp) -> str:
    """Return a moment for people, in UTC to the second."""
    return moment.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")


def amount_text(amount: amount_pb2.Amount) -> str:
    """Return an amount for people."""
    return currencies.text(amount.minor_units, amount.currency_code)


def enum_text(kind: EnumTypeWrapper, value: int, prefix: str) -> str:
    """Return an enum value for people: "VAULT_KEY_STATE_ACTIVE" is "active".

    A value that only a newer server knows is shown as its number.
    """
    try:
        name: str = kind.Name(value)
    except ValueError:
        return str(value)
    return name.removeprefix(prefix).lower().replace("_", "-")
