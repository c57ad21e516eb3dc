"""A service was away, or another attempt was faster: a retry is the remedy."""

from __future__ import annotations

from tallyclerk.exceptions.bases import TransientError


class ServiceUnavailableError(TransientError):
    """A service did not answer, or answered that it is not ready."""

    def __init__(self, *, service: str, address: str, cause: object) -> None:
        super().__init__(
            f"{service} at {address} is not available: {cause}. The load changed nothing that a retry does not "
            "replace; check the service (`make status`)."
        )


class RepeatedPageError(TransientError):
    """A paged API leads in a circle."""

    def __init__(self, *, what: str, rows: int) -> None:
        super().__init__(
            f"The API leads in a circle: after {rows:,} rows, {what}. What was read before is kept, and a retry goes on from "
            "there; if it fails again, compare the contract's `rest` property with the API's way to page."
        )


class UnstableSourceError(TransientError):
    """A paged API moved under every reading, so that none can be believed."""

    def __init__(self, *, url: str, what: str) -> None:
        super().__init__(
            f"{url}: {what}. The load is not complete. Load when fewer rows change, in larger pages, or ask for a span of "
            "time that is over."
        )


class NotProducedError(TransientError):
    """A window's messages are not all in their topic yet."""

    def __init__(self, *, load: str, found: str) -> None:
        super().__init__(
            f"{load} is not produced yet: {found}. A retry finds it once the task that writes the window to Kafka has succeeded; "
            "let this one depend on it."
        )


class NotSignedError(TransientError):
    """A day cannot be closed yet."""

    def __init__(self, *, load: str, found: str) -> None:
        super().__init__(
            f"{load} is not signed in Cassandra: {found}. No day was closed that needs it. A retry finds it once its load has "
            "succeeded; let this task depend on that one."
        )


class ConcurrentLoadError(TransientError):
    """Another attempt committed the same window at the same time."""

    def __init__(self, *, load: str, cause: object) -> None:
        super().__init__(
            f"Another attempt committed {load} at the same time ({cause}). The retry starts from its rows."
        )


class SparkApplicationLostError(TransientError):
    """A Spark application ended without a verdict on its data: killed, out of memory, or cut off from a service."""

    def __init__(self, *, application: str, exit_code: int, told: str) -> None:
        super().__init__(
            f"The Spark application {application} ended with exit code {exit_code} before it could say whether its work is "
            f"done. It is idempotent: the retry replaces whatever was committed. Last words:\n{told}"
        )


class ConnectorNotReadyError(TransientError):
    """A connector did not reach its declared state in time."""

    def __init__(self, *, connector: str, wanted: str, found: str, limit_seconds: float) -> None:
        super().__init__(
            f"Connector {connector!r} should be {wanted} and after {limit_seconds:.0f} s is not: {found}. A retry waits on; "
            "if it stays so, see the worker's log."
        )


class FlinkJobBusyError(TransientError):
    """Somebody else is changing the same Flink job."""

    def __init__(self, *, job: str, generation: int, what: str) -> None:
        super().__init__(
            f"Generation {generation} of the Flink job {job!r} is {what} by another task at this moment. Nothing was done; a retry "
            "finds what came of it."
        )


class FlinkJobNotReadyError(TransientError):
    """A Flink job is not, or is no longer, well."""

    def __init__(self, *, job: str, found: str, limit_seconds: float) -> None:
        super().__init__(
            f"The Flink job {job!r} has not been well for {limit_seconds:.0f} s: {found}. It is left as it is, and Flink goes on "
            "trying; a retry looks again."
        )


class SlotInUseError(TransientError):
    """A replication slot cannot be dropped while somebody reads from it."""

    def __init__(self, *, slot: str, pid: int | None) -> None:
        super().__init__(
            f"The replication slot {slot!r} is still read by the server process {pid}. Nothing was dropped; end that reader, a "
            "retry then drops slot and offsets together."
        )
