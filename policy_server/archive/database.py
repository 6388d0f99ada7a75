"""Opens the archive's database, SQLite or PostgreSQL, and notices when it hangs or is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from policy_server.core.errors import ArchiveUnavailable, SpendgateError

log = logging.getLogger(__name__)

_BUSY_S = 5
_CONNECT_S = 5
_STATEMENT_S = 10
"""Longer than any of our statements takes: a transaction that takes longer is broken off."""

_MIGRATION_LOCK = 0x5350454E44  # any number that is the same everywhere


class ArchiveUrlInvalid(SpendgateError):
    """The address of the archive can't be understood."""


class ArchiveGone(ArchiveUnavailable):
    """The archive's file is no longer where it was opened."""


class Database:
    """The archive's database. Its methods may be called from any thread."""

    def __init__(self, url: SecretStr | None, data_dir: Path, *, read_only: bool = False) -> None:
        """Without ``url`` it is ``audit.sqlite`` in ``data_dir``. Raises `ArchiveUrlInvalid`."""
        self._url = _parsed(url, data_dir)
        self._read_only = read_only
        self._inode: tuple[int, int] | None = None
        self._engine = self._make_engine()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """The file of an SQLite database."""
        return Path(self._url.database or "")

    @property
    def title(self) -> str:
        """Where it is, without a password."""
        return str(self.path) if self.is_sqlite else self._url.render_as_string(hide_password=True)

    def migrate(self) -> None:
        """Bring the tables to this version, one process at a time; make a database that is not there.

        Raises `ArchiveUnavailable`, also when the tables are of a newer version.
        """
        if self.is_sqlite:
            self._make_file()
        config = Config()
        config.set_main_option("script_location", str(files("policy_server.archive") / "migrations"))
        with self.transaction(writes=True, deadline_s=600) as connection:
            if not self.is_sqlite:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise ArchiveUnavailable(
                    f"the archive {self.title} was written by a newer version of Spendgate ({error}); "
                    "upgrade this one"
                ) from None

    @contextlib.contextmanager
    def transaction(
        self, *, writes: bool = False, deadline_s: float | None = _STATEMENT_S, snapshot: bool = False
    ) -> Iterator[Connection]:
        """Open a transaction, which is committed at the end of the block.

        With ``snapshot`` everything in it is read as it is at one moment; SQLite
        always does so.

        Raises `ArchiveGone` when the file has vanished, also when that is only
        seen after the commit, and `ArchiveUnavailable` when the database fails
        or does not answer in time.
        """
        self._check_file()
        try:
            with self._engine.connect() as connection, _deadline(connection, deadline_s):
                connection.execution_options(spendgate_writes=writes)
                if snapshot and not self.is_sqlite:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise ArchiveUnavailable(f"the audit archive does not answer: {_reason(error)}") from None
        self._check_file()

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(
                self._url,
                pool_size=4,
                pool_recycle=600,
                hide_parameters=True,
                connect_args={
                    "connect_timeout": _CONNECT_S,
                    "options": f"-c statement_timeout={_STATEMENT_S}s -c lock_timeout={_STATEMENT_S}s "
                    f"-c idle_in_transaction_session_timeout={2 * _STATEMENT_S}s",
                    "keepalives_idle": 10,
                    "application_name": "spendgate",
                },
            )
        # Never made by opening it: a file that has vanished must not come back empty.
        mode = "ro" if self._read_only else "rw"
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(address, uri=True, timeout=_BUSY_S, check_same_thread=False),
            poolclass=QueuePool,
            pool_size=4,
            hide_parameters=True,
        )
        event.listen(engine, "connect", self._set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _set_up_sqlite(self, connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin where `_begin_sqlite` says so
        if not self._read_only:
            connection.execute("PRAGMA page_size = 8192")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 1000")
            connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -65536")

    def _make_file(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise ArchiveUnavailable(
                f"the audit archive {self.path} can't be made: {error.strerror}"
            ) from None

    def _check_file(self) -> None:
        """Raise `ArchiveGone` unless what is open is what stands at the path; open a file put back there."""
        if not self.is_sqlite:
            return
        try:
            found = self.path.stat()
        except OSError:
            found = None
        present = (found.st_dev, found.st_ino) if found else None
        if present == self._inode and present is not None:
            return
        if present is not None and self._inode is None:
            self._inode = present
            return
        self._engine.dispose()
        self._inode = None
        what = "another file stands in its place" if present else "it is not there any more"
        raise ArchiveGone(f"the audit archive {self.path} has vanished: {what}; put it back")


def _parsed(url: SecretStr | None, data_dir: Path) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(data_dir / "audit.sqlite"))
    try:
        parsed = make_url(url.get_secret_value())
    except ArgumentError:  # its text may have parts of the password
        parsed = None
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        return URL.create("sqlite", database=parsed.database)
    if parsed is not None and parsed.drivername in {"postgresql", "postgres", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise ArchiveUrlInvalid(
        "archive_url (SPENDGATE_ARCHIVE_URL) must look like postgresql://user:password@host:5432/name "
        "or sqlite:////path/to/audit.sqlite"
    )


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("spendgate_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _deadline(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Break the connection off when the block takes longer.

    A server that hangs, or is cut off, sends neither an answer nor an end; its
    own limits do not help then.
    """
    if seconds is None or connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    duplicate = socket.socket(fileno=os.dup(driver.fileno()))

    def break_off() -> None:
        with contextlib.suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        duplicate.close()


def _reason(error: SQLAlchemyError) -> str:
    """Return what the driver said, without the statement and its values."""
    original = getattr(error, "orig", None)
    return " ".join(str(original or type(error).__name__).split())
