"""Changes of a table into a topic: piece after piece, each with the position after it in its transaction."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import TransientError
from tallyclerk.sinks.kafka_commits import COMPLETE_KEY

if TYPE_CHECKING:
    from tallyclerk.contracts import Contract
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
    from tallyclerk.sources.database_changes import ChangePiece, ChangeSource


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLoad:
    """One load, of one attempt.

    :param sink: entered: other attempts are fenced, and nobody else moves its cursor.
    :param source: makes the source; told whether the load has committed nothing yet.
    :param from_the_first_row: a load that was cut off begins again, since its source cannot go on in the middle.
    :param is_stopped: asked before each commit.
    """

    sink: KafkaTransactionSink
    source: Callable[[bool], ChangeSource]
    contract: Contract
    window: Window
    load_id: str
    from_the_first_row: bool = False
    is_stopped: Callable[[], bool] = lambda: False

    def run(self, *, complete: bool = True) -> Receipt:
        """Send what the source has after the sink's cursor; a load that is complete is not sent again.

        :param complete: the load ends with the source's last piece; else it can be run again.
        :return: the receipt of the whole load so far.
        :raises TransientError: the task was killed, or a service is away; what was committed stays.
        """
        load = load_name(self.sink.dataset, self.window)
        former = self.sink.progress(load)
        if former is not None and former.details.get(COMPLETE_KEY):
            return former.as_repeated()
        if former is not None and self.from_the_first_row:
            self.sink.restart(load)
            former = None
        ledger, receipt = former.ledger if former else Ledger(), former
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="tallyclerk-") as directory:
            pieces = self.source(former is None).pieces(self.sink.cursor(), self.window, Path(directory))
            for piece in pieces:
                if self.is_stopped():
                    raise TransientError(f"{load} was killed; what it has committed stays, the next attempt goes on.")
                ledger += piece.ledger
                receipt = self.sink.commit(
                    piece.rows,
                    self._receipt(piece, ledger, time.monotonic() - started),
                    complete=complete and piece.last,
                    rejects=piece.rejects,
                    tombstones=piece.tombstones,
                )
        assert receipt is not None  # a source has at least one piece
        return receipt

    def _receipt(self, piece: ChangePiece, ledger: Ledger, seconds: float) -> Receipt:
        return Receipt(
            dataset=self.sink.dataset,
            window=self.window.key,
            ledger=ledger,
            location=self.sink.location,
            load_id=self.load_id,
            contract_version=self.contract.version,
            sources=(piece.facts,),
            cursor=piece.cursor,
            details={"seconds": round(seconds, 3), "engine": "local"},
        )
