"""A CSV file of plain values, read by Arrow straight into its types, and the proof that every byte of it was taken as it stands.

Arrow reads an integer, a decimal, a date or a timestamp exactly or not at all, but overlooks some bytes: it trims blanks, knows
``0x1F``, ``1e3`` and a ``T`` in a timestamp. So the bytes are counted as they are read, those in texts are counted again in what came
out, and the rest stands in numbers, dates and times: digits, ``-`` and ``.`` in all of them, and in each timestamp one blank and two
colons. Where that adds up, and lines and records too, each value is what stands in the file. Where it does not, nothing is said of the
file, and it is to be read as text (:mod:`tallyclerk.sources.csv_query`), value by value; so is one with a quote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tallyclerk.contracts.projections import arrow_type, quoted
from tallyclerk.sources.csv_engine import ARROW_READER, copy_counting
from tallyclerk.sources.csv_progress import Tell
from tallyclerk.sources.csv_query import CsvQuery, Passed
from tallyclerk.sources.csv_uuids import are_plain_uuids, text_bytes
from tallyclerk.sources.csv_values import in_calendar, is_iso, text_of
from tallyclerk.sources.landing_file import count_newlines

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

    from tallyclerk.contracts.model import Column
    from tallyclerk.sources.landing_file import LandingFile

_RELATION = "plain file"
_BLOCK_BYTES = 1 << 20
_TEXT_ROWS = 8_192  # what is compared stays in the processor's cache
_TEXTS = ("text", "uuid")
_NUMBERS = ("smallint", "int", "bigint", "decimal")


def copy_plain(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, target: Path, tell: Tell
) -> tuple[int, Passed] | None:
    """Write the file's rows that fit and are kept to ``target``; None where it is not plain, whatever was written.

    :param tell: is told of the lines read so far, now and then.
    :returns: the rows written, and what went through.
    :raises duckdb.Error: a row filter is no condition over the columns.
    """
    if not _is_provable(query):
        return None
    plain = _PlainQuery(query.contract, query.dialect, query.required, query.filters)
    with file.path.open("rb") as delivered:
        reading = _Reading(query, delivered, tell)
        batches = reading.open()
        if batches is None:
            return None
        # the bare stream: for a reader as such the engine imports pandas, which takes two seconds of CPU
        connection.register(_RELATION, batches.__arrow_c_stream__())
        try:
            written, counts = copy_counting(connection, plain.rows(_RELATION), target, reader=ARROW_READER)
        finally:
            connection.unregister(_RELATION)
    passed = query.passed(counts)
    if passed is None or passed.records != reading.records or not reading.adds_up(file.lines):
        return None
    return written, passed


def _is_provable(query: CsvQuery) -> bool:
    """Whether the proof is about files of this contract and dialect."""
    dialect, columns = query.dialect, query.contract.source_columns
    return (
        len(columns) > 1  # a blank line is no record then
        and dialect.null_text == ""
        and dialect.delimiter in tuple(",;|\t")
        and all(column.kind in (*_TEXTS, *_NUMBERS) or is_iso(column) for column in columns)
    )


class _PlainQuery(CsvQuery):
    """Over columns that are typed already; a UUID is the text of one, as it is stored."""

    def reader(self, path: str) -> str:
        return quoted(path)

    def value(self, column: Column, duckdb_type: str) -> str:
        return super().value(column, duckdb_type) if column.kind == "uuid" else quoted(column.name)

    def fitting(self, column: Column) -> str:
        return f"({in_calendar(column)}) IS NOT FALSE" if is_iso(column) else ""

    def stored(self, column: Column, form: str) -> str:
        return text_of(column.name) if column.kind == "uuid" else super().stored(column, form)


@dataclass(slots=True)
class _Signs:
    """Bytes by what they may stand for.

    :param numerals: ``,-./0123456789``, not told apart: with a comma or a slash in it a number is none for Arrow.
    """

    all: int = 0
    numerals: int = 0
    blanks: int = 0
    colons: int = 0

    def add(self, content: np.ndarray) -> None:
        import numpy as np

        self.all += len(content)
        # unsigned: what lies below the comma wraps around to a large number
        self.numerals += int(np.count_nonzero(content - np.uint8(ord(",")) <= ord("9") - ord(",")))
        self.blanks += int(np.count_nonzero(content == ord(" ")))
        self.colons += int(np.count_nonzero(content == ord(":")))

    @property
    def others(self) -> int:
        return self.all - self.numerals - self.blanks - self.colons


class _Reading:
    """One reading of a file: a stream for Arrow that counts what passes, and the batches that come out, counted too."""

    def __init__(self, query: CsvQuery, delivered: BinaryIO, tell: Tell) -> None:
        self.records = 0
        self.closed = False  # Arrow asks
        self._query, self._delivered, self._tell = query, delivered, tell
        self._in_records, self._in_texts = _Signs(), _Signs()
        self._header_lines = int(query.dialect.header)
        self._timestamps = self._newlines = self._returns = self._endings = 0
        self._last = b"\n"
        self._begun, self._is_plain = False, True

    def open(self) -> pa.RecordBatchReader | None:
        """The batches; None where the file has no record, or one of the first is not plain."""
        import pyarrow as pa
        from pyarrow import csv

        types = {column.name: _arrow_type(column) for column in self._query.contract.source_columns}
        try:
            batches = csv.open_csv(
                self,
                read_options=csv.ReadOptions(
                    use_threads=False,  # the engine writes meanwhile
                    block_size=_BLOCK_BYTES,
                    skip_rows=self._header_lines,
                    column_names=list(types),
                ),
                parse_options=csv.ParseOptions(delimiter=self._query.dialect.delimiter, quote_char=False),
                convert_options=csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
            )
        except pa.ArrowInvalid:
            return None
        return pa.RecordBatchReader.from_batches(batches.schema, self._counted(batches))

    def read(self, size: int = -1) -> bytes:
        """The next piece of the file; none where a quote stands in it."""
        import numpy as np

        piece, quote = self._delivered.read(size), self._query.dialect.quote
        if quote and quote.encode() in piece:
            self._is_plain = False
            return b""
        self._newlines += count_newlines(piece)
        if b"\r" in piece:
            self._returns += piece.count(b"\r")
        if self._returns:
            self._endings += (self._last + piece).count(b"\r\n")
        header_bytes = piece.find(b"\n") + 1 if self._header_lines and not self._begun else 0
        self._in_records.add(np.frombuffer(piece, "u1")[header_bytes:])
        self._begun, self._last = True, piece[-1:] or self._last
        self._tell(self._newlines)
        return piece

    def close(self) -> None:
        self.closed = True

    def _counted(self, batches: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        """The batches up to what is not plain, which ends them: an error would have to cross the engine."""
        import pyarrow as pa

        kinds = [column.kind for column in self._query.contract.source_columns]
        try:
            for batch in batches:
                self.records += batch.num_rows
                for kind, values in zip(kinds, batch.columns, strict=True):
                    if kind in _TEXTS:
                        self._add_texts(values, are_uuids=kind == "uuid")
                    elif kind == "timestamp":
                        self._timestamps += len(values) - values.null_count
                if not self._is_plain:
                    return
                yield batch
        except pa.ArrowInvalid:
            self._is_plain = False

    def _add_texts(self, values: pa.StringArray, *, are_uuids: bool) -> None:
        for first in range(0, len(values), _TEXT_ROWS):
            some = values.slice(first, _TEXT_ROWS)
            self._in_texts.add(text_bytes(some))
            self._is_plain = self._is_plain and (not are_uuids or are_plain_uuids(some))

    def adds_up(self, file_lines: int) -> bool:
        """Whether all of the file has been read, each line as a record, and each byte of a record as what it stands for.

        :param file_lines: its physical lines, its header among them; a last line without a newline counts.
        """
        lines = self._newlines + (self._last != b"\n")
        file, texts = self._in_records, self._in_texts
        newlines = self._newlines - self._header_lines
        between = newlines * (2 if self._returns else 1)
        if self._query.dialect.delimiter != ",":
            between += self.records * (len(self._query.names) - 1)
        return (
            self._is_plain
            and self.records + self._header_lines == lines == file_lines
            # a return by itself ends a line for Arrow
            and self._returns == self._endings
            and self._returns in (0, self._newlines)
            and file.others == texts.others + between
            and file.blanks == texts.blanks + self._timestamps
            and file.colons == texts.colons + 2 * self._timestamps
        )


def _arrow_type(column: Column) -> pa.DataType:
    """As stored, but for the zone, which a timestamp in a file of plain values does not state."""
    import pyarrow as pa

    return pa.timestamp("us") if column.kind == "timestamp" else arrow_type(column)
