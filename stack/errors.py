"""What can go wrong with the stack, said so that a user can act on it."""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """The stack cannot do what was asked; the message names the remedy."""


class SettingError(StackError):
    """A value of the environment or of `.env` does not fit."""


class PortTakenError(StackError):
    """Somebody else listens where a service of ours must."""

    def __init__(self, *, service: str, port: int, variable: str, holder: str) -> None:
        super().__init__(
            f"{service}: port {port} is taken by {holder}; stop that process or set {variable} to a free port (environment or .env)"
        )


class ServiceDiedError(StackError):
    """A process of ours ended while it was starting."""

    def __init__(self, *, service: str, log: Path, tail: str) -> None:
        super().__init__(f"{service} ended while it was starting; its last lines ({log}):\n{tail}")


class NotHealthyError(StackError):
    """A process of ours runs but does not answer as it should within its limit."""

    def __init__(self, *, service: str, limit_seconds: float, log: Path) -> None:
        super().__init__(f"{service} runs but was not healthy after {limit_seconds:.0f} s; see {log}")


class ToolMissingError(StackError):
    """A program that the stack calls is not installed, or failed."""
