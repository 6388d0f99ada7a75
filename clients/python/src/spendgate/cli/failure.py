"""How a command fails: one sentence on standard error and an exit code."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command was refused or could not do its work; the message says why and what to do."""

    exit_code = 1


class UsageWrong(CommandFailed):
    """The command line can't be understood."""

    exit_code = 2
