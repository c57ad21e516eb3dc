"""CSV files of a day to the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.core.receipt import load_name
from tallyclerk.exceptions import SpecError
from tallyclerk.transfers.base import LakeLoadOperator

if TYPE_CHECKING:
    from tallyclerk.contracts import Contract
    from tallyclerk.core.extract import Source
    from tallyclerk.core.receipt import Receipt
    from tallyclerk.core.window import Window
    from tallyclerk.hooks.lake import LakeHook
    from tallyclerk.sinks.corrections import Corrections
    from tallyclerk.transfers.csv_load_on_spark import CsvLoadOnSpark


class CsvToHdfsOperator(LakeLoadOperator):
    """Load all CSV files of a day into a Delta table on HDFS, every line accounted for.

    Plain, ``.gz`` and ``.zst`` files. A record that does not fit the contract goes to quarantine with file, record
    number, column, reason and text; a file whose header, encoding or end is wrong is refused before any write.
    See :class:`~tallyclerk.transfers.base.LakeLoadOperator` for the guarantee and the common parameters.

    Two engines, one answer: ``local`` reads the files on this worker; ``spark`` has ``spark_jobs/load_csv.py`` read them on the
    cluster, for days that outgrow a worker. Its workers must see the landing folder under the same path. The ledger, the rows, the
    quarantine and the receipt are the same (``paths`` are then the day's folder). What it cannot do is refused with a
    :class:`~tallyclerk.exceptions.SpecError`: ``.zst``, UTF-16 and its kind, SQL that only DuckDB understands, cluster deploy mode.

    :param fs_conn_id: connection of type ``fs`` whose path is the landing folder.
    :param pattern: glob below it, ``{date}`` stands for the day; the contract's path when None. Templated.
    :param delimiter, null_text, encoding, mode: instead of the contract's own.
    :param required_columns: columns that must not be empty, beyond the contract's.
    :param row_filters: SQL conditions (``"amount > 0"``) that a row must meet to be written; others count as filtered.
    :param deduplicate_by: key of which the last record of the window is kept; the contract's primary key when None.
    :param max_rejected_ratio: share of records above which mode PERMISSIVE fails.
    :param allow_empty: a day without files gives no rows instead of an error.
    :param corrections: path of the table of corrections; ``/data/corrections/<dataset>`` when None. Templated.
    :param engine: ``local`` or ``spark``.
    :param spark_conn_id: connection of type ``spark``, for the Spark engine.
    :param spark_conf: Spark properties of the application. Templated.
    """

    template_fields: Sequence[str] = (
        *LakeLoadOperator.template_fields,
        "pattern",
        "row_filters",
        "corrections",
        "spark_conf",
    )

    def __init__(
        self,
        *,
        fs_conn_id: str = "fs_landing",
        pattern: str | None = None,
        delimiter: str | None = None,
        null_text: str | None = None,
        encoding: str | None = None,
        mode: str | None = None,
        required_columns: Sequence[str] = (),
        row_filters: Sequence[str] = (),
        deduplicate_by: Sequence[str] | None = None,
        max_rejected_ratio: float = 0.1,
        allow_empty: bool = False,
        corrections: str | None = None,
        engine: str = "local",
        spark_conn_id: str = "spark_default",
        spark_conf: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fs_conn_id, self.pattern = fs_conn_id, pattern
        self.delimiter, self.null_text, self.encoding, self.mode = delimiter, null_text, encoding, mode
        self.required_columns, self.row_filters = required_columns, row_filters
        self.deduplicate_by, self.max_rejected_ratio = deduplicate_by, max_rejected_ratio
        self.allow_empty, self.corrections = allow_empty, corrections
        self.engine, self.spark_conn_id, self.spark_conf = engine, spark_conn_id, spark_conf
        self._load_on_spark: CsvLoadOnSpark | None = None

    def load(self, lake: LakeHook, window: Window, contract: Contract, source: Source, load_id: str) -> Receipt:
        from tallyclerk.sources.csv_files import CsvFiles
        from tallyclerk.transfers.csv_load_on_spark import CsvLoadOnSpark

        if self.engine not in ("local", "spark"):
            raise SpecError(f"engine={self.engine!r} is not one of local, spark.")
        if isinstance(source, CsvFiles):
            source = replace(source, corrections=self._corrections(lake, contract).of_window(window))
            if source.corrections and self.engine == "spark":
                raise SpecError(
                    f"{load_name(contract.dataset, window)} has corrections of rejected records, which engine='spark' does not "
                    "apply; nothing was loaded. Load the day with engine='local', or mend the files."
                )
        # a day without files needs no cluster
        if self.engine == "local" or not isinstance(source, CsvFiles) or not source.files(window):
            return super().load(lake, window, contract, source, load_id)
        table = self.lake_table(lake, contract)
        former = table.receipt(window)
        if (held := self.held(former, window, source)) is not None:
            return held
        self._load_on_spark = CsvLoadOnSpark(
            source=source, spark_conn_id=self.spark_conn_id, conf=dict(self.spark_conf or {})
        )
        return self._load_on_spark.run(window, table, self.quarantine_uri(lake, contract), former)

    def _corrections(self, lake: LakeHook, contract: Contract) -> Corrections:
        from tallyclerk.sinks.corrections import Corrections

        uri = lake.uri(self.corrections or f"/data/corrections/{contract.dataset}")
        return Corrections(uri, dataset=contract.dataset)

    def on_kill(self) -> None:
        if self._load_on_spark is not None:
            self._load_on_spark.kill()

    def make_source(self, contract: Contract, load_id: str) -> Source:
        from tallyclerk.hooks.landing import LandingHook
        from tallyclerk.sources.csv_files import CsvFiles

        if contract.csv is None:
            raise SpecError(f"{contract.path}: has no server with `format: csv`; add one with the files' dialect.")
        overrides = {
            "delimiter": self.delimiter,
            "null_text": self.null_text,
            "encoding": self.encoding,
            "parse_mode": self._checked_mode(),
        }
        key = contract.primary_key if self.deduplicate_by is None else self.deduplicate_by
        return CsvFiles(
            contract=contract,
            dialect=replace(
                contract.csv,
                **{name: value for name, value in overrides.items() if value is not None},  # type: ignore[arg-type]
            ),
            folder=Path(LandingHook(self.fs_conn_id).path),
            pattern=self.pattern or "",
            required=tuple(self.required_columns),
            filters=tuple(self.row_filters),
            deduplicate_by=tuple(key),
            max_rejected_ratio=self.max_rejected_ratio,
            allow_empty=self.allow_empty,
            load_id=load_id,
        )

    def _checked_mode(self) -> str | None:
        if self.mode not in (None, "PERMISSIVE", "DROPMALFORMED", "FAILFAST"):
            raise SpecError(f"mode={self.mode!r} is not one of PERMISSIVE, DROPMALFORMED, FAILFAST.")
        return self.mode
