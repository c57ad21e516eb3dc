"""Every error of the provider, grouped by what recovers from it.

* :class:`TerminalError`: running again cannot help (terminal); a person has to act.
* :class:`SpecError`: what the user wrote is wrong (a contract, an argument, a settings file). Terminal.
* :class:`RecordError`: the data is wrong and the load refused it. Terminal until data or thresholds change.
* :class:`TransientError`: a service was away or another attempt was faster. A retry is the remedy.

Each message is a sentence that says what happened and what to do. Constructors take facts and build it.
Nothing here imports Airflow or a driver, so that any module may import it at parse time.
"""

from __future__ import annotations

from tallyclerk.exceptions.bases import (
    RecordError,
    SpecError,
    TallyclerkError,
    TerminalError,
    TransientError,
)
from tallyclerk.exceptions.record import (
    CorrectionsRejectedError,
    DamagedFileError,
    DriftError,
    HeaderError,
    LedgerError,
    NoInputError,
    OffsetsDeletedError,
    ReconcileError,
    TooManyRejectsError,
)
from tallyclerk.exceptions.spec import (
    ConnectorRefusedError,
    FlinkRefusedError,
    FlinkSqlError,
    IncompatibleSchemaError,
    SpecErrors,
    StateDoesNotFitError,
    VersionLostError,
)
from tallyclerk.exceptions.terminal import (
    CassandraRefusedError,
    ConnectorFailedError,
    FlinkJobFailedError,
    FlinkStateLostError,
    KafkaRefusedError,
    SchemaMismatchError,
    SentRowsDeletedError,
    SlotBudgetError,
    SlotLostError,
    SparkJobError,
)
from tallyclerk.exceptions.transient import (
    ConcurrentLoadError,
    ConnectorNotReadyError,
    FlinkJobBusyError,
    FlinkJobNotReadyError,
    NotProducedError,
    NotSignedError,
    RepeatedPageError,
    ServiceUnavailableError,
    SlotInUseError,
    SparkApplicationLostError,
    UnstableSourceError,
)

__all__ = [
    "CassandraRefusedError",
    "ConcurrentLoadError",
    "ConnectorFailedError",
    "ConnectorNotReadyError",
    "ConnectorRefusedError",
    "CorrectionsRejectedError",
    "DamagedFileError",
    "DriftError",
    "FlinkJobBusyError",
    "FlinkJobFailedError",
    "FlinkJobNotReadyError",
    "FlinkRefusedError",
    "FlinkSqlError",
    "FlinkStateLostError",
    "HeaderError",
    "IncompatibleSchemaError",
    "KafkaRefusedError",
    "LedgerError",
    "NoInputError",
    "NotProducedError",
    "NotSignedError",
    "OffsetsDeletedError",
    "ReconcileError",
    "RecordError",
    "RepeatedPageError",
    "SchemaMismatchError",
    "SentRowsDeletedError",
    "ServiceUnavailableError",
    "SlotBudgetError",
    "SlotInUseError",
    "SlotLostError",
    "SparkApplicationLostError",
    "SparkJobError",
    "SpecError",
    "SpecErrors",
    "StateDoesNotFitError",
    "TallyclerkError",
    "TerminalError",
    "TooManyRejectsError",
    "TransientError",
    "UnstableSourceError",
    "VersionLostError",
]
