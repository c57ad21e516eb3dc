"""The classes by which a failure is told apart: what recovers from it."""

from __future__ import annotations


class TallyclerkError(Exception):
    """Base of all errors raised on purpose by this provider."""


class TerminalError(TallyclerkError):
    """A retry cannot help."""


class SpecError(TerminalError):
    """Something the user wrote cannot be carried out as written."""


class RecordError(TerminalError):
    """The data does not fit, so that nothing of it was committed."""


class TransientError(TallyclerkError):
    """A retry may help: the load is idempotent, so repeating it is safe."""
