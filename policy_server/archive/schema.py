"""The tables of the archive.

Migrations make them; what is written here must say the same, which a test compares.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

metadata = MetaData()

# Bytewise order, so that what begins with a prefix stands together; SQLite has no other.
_NAME = Text().with_variant(Text(collation="C"), "postgresql")

# SQLite keeps rows by this name of the type, and by no other.
_ID = BigInteger().with_variant(Integer, "sqlite")

SEQUENCE_BITS = 40
"""The id of an event is the id of its account, and in so many bits below its sequence.

One number for both keeps the tables small: it is in every index.
"""


def event_id(account_id: int, sequence: int) -> int:
    """Return the id of an account's event."""
    return (account_id << SEQUENCE_BITS) + sequence


def sequence_of(event_id: int) -> int:
    """Return the sequence of the event with this id."""
    return event_id & ((1 << SEQUENCE_BITS) - 1)


account = Table(
    "account",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", _NAME, nullable=False, unique=True),
    # The newest event, and what stands before it in the chain.
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    # The latest time of any event so far: clocks may be set back, this never goes back.
    Column("reached_ms", BigInteger, nullable=False),
    # How far a clock was ever set back.
    Column("set_back_ms", BigInteger, nullable=False),
    Column("epoch", Text, nullable=False),
    # The highest number of a ledger that any rebuild was given; an append must have read it.
    Column("generation", BigInteger, nullable=False, server_default="0"),
)

event = Table(
    "event",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("body", Text, nullable=False),
    # Copies of what the body says, to search by; NULL when it says nothing.
    Column("created_at_ms", BigInteger, nullable=False),
    Column("reached_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("decision", Text),
    Column("run_id", _NAME),
    Column("vault_key_id", _NAME),
    Column("idempotency_key", _NAME),
    Column("object_id", _NAME),
    # 1 for what is seldom and much asked for: denials, refusals and administration.
    Column("notable", SmallInteger),
)

SEARCHED = ("object_id", "idempotency_key", "run_id", "vault_key_id", "notable")
"""Columns with an index, what singles out most first."""


def index_name(column: str) -> str:
    """Return the name of the index on a column of events."""
    return f"event_by_{column}"


for _name in SEARCHED:
    _present = event.c[_name].is_not(None)
    Index(
        index_name(_name),
        event.c[_name],
        event.c.id,
        sqlite_where=_present,
        postgresql_where=_present,
    )

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("account_id", Integer, ForeignKey("account.id"), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("key_id", String(16), ForeignKey("signing_key.id"), nullable=False),
    Column("signature", LargeBinary, nullable=False),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("public_key", LargeBinary, nullable=False),
)

# Events that are known to be lost, each stretch accepted by an operator.
loss = Table(
    "loss",
    metadata,
    Column("account_id", Integer, ForeignKey("account.id"), primary_key=True),
    Column("first_sequence", BigInteger, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    Column("last_hash", LargeBinary, nullable=False),
    Column("accepted_at_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)
