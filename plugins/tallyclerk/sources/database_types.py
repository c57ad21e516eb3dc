"""How PostgreSQL types become Arrow types, exactly or not at all.

| PostgreSQL | Arrow | how |
|---|---|---|
| smallint, integer, bigint | int16, int32, int64 | as is |
| boolean | bool | as is |
| text, varchar(n), char(n), name | string | as is (char(n) keeps its blanks) |
| real, double precision | float, double | as is, NaN and infinities included |
| numeric(p,s), p ≤ 38 | decimal128(p,s) | exact; NaN and ±Infinity are special values |
| numeric, numeric(p > 38) | string | exact text |
| date | date32 | special: ±infinity, and years outside 1–9999 |
| timestamp | timestamp[us] | the same specials |
| timestamptz | timestamp[us, UTC] | the same specials |
| uuid | string | lower case with hyphens (Delta has no uuid) |
| bytea | binary | as is |
| arrays | string | JSON text by ``to_json``; array bounds other than 1 are not kept |
| interval | string | ISO 8601 text (``intervalstyle = iso_8601``) |
| all else (json, jsonb, enums, inet, time, ranges, bit, xml, money, oid, composites, ...) | string | PostgreSQL's text |

A domain is described by PostgreSQL as its base type. A numeric with a negative scale, or a scale above its precision, gets
the decimal that holds all its values. Everything that is not on the list is cast to text by the server, so that no type
reaches the driver's reader for which that reader is not exact. Special values have no Arrow, Parquet or Delta counterpart;
what happens to them is the policy ``special_values`` of :class:`~tallyclerk.sources.database_table.DatabaseTable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tallyclerk.contracts.projections import quoted
from tallyclerk.exceptions import SchemaMismatchError
from tallyclerk.sources.database_numeric import MAX_DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

Wire = Literal["plain", "numeric", "decimal", "uuid", "date", "timestamp"]
"""How a column comes out of the driver, and so what has to be done with it. A decimal comes as the server's own ``numeric`` where its
digits are few enough, which costs the server a quarter less than its text."""

NUMERIC, DATE, TIMESTAMP, TIMESTAMPTZ, INTERVAL, UUID = 1700, 1082, 1114, 1184, 1186, 2950
INTEGERS = {21: ("int16", 5), 23: ("int32", 10), 20: ("int64", 19)}
"""Integer types: Arrow's name and the decimal digits they may have."""
PLAIN = {
    16: "bool",
    25: "string",
    1043: "string",
    1042: "string",
    19: "string",
    700: "float",
    701: "double",
    17: "binary",
}
MAX_DECIMAL_DIGITS = 38


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """A result column as the server describes it. ``type_name`` is PostgreSQL's own spelling, ``numeric(12,2)``."""

    name: str
    oid: int
    typmod: int
    type_name: str
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How one column is selected, decoded and stored.

    :param expression: SQL over the column, without an alias.
    :param required: a null here rejects the row.
    """

    name: str
    type_name: str
    expression: str
    wire: Wire
    arrow: pa.DataType
    required: bool = False

    @property
    def select(self) -> str:
        return f"{self.expression} AS {quoted(self.name)}"


def plan_column(column: DescribedColumn) -> ColumnPlan:
    """The plan of a column by the table above."""
    import pyarrow as pa

    name = quoted(column.name)
    if column.oid in INTEGERS:
        return _plan(column, name, "plain", pa.type_for_alias(INTEGERS[column.oid][0]))
    if column.oid in PLAIN:
        return _plan(column, name, "plain", pa.type_for_alias(PLAIN[column.oid]))
    if column.oid == NUMERIC and (digits := decimal_digits(column.typmod)):
        return _decimal_plan(_plan(column, f"{name}::text", "decimal", pa.decimal128(*digits)), name)
    if column.oid == UUID:
        return _plan(column, name, "uuid", pa.string())
    if column.oid == DATE:
        return _plan(column, name, "date", pa.date32())
    if column.oid in (TIMESTAMP, TIMESTAMPTZ):
        return _plan(column, name, "timestamp", pa.timestamp("us", tz="UTC" if column.oid == TIMESTAMPTZ else None))
    return _plan(column, as_text(column), "plain", pa.string())


def as_text(column: DescribedColumn) -> str:
    """SQL for a column's exact text."""
    return f"to_json({quoted(column.name)})::text" if column.is_array else f"{quoted(column.name)}::text"


def decimal_digits(typmod: int) -> tuple[int, int] | None:
    """Precision and scale of the decimal128 that holds every finite value of a numeric with this modifier.

    The modifier is ``((precision << 16) | (scale & 0x7ff)) + 4``, the scale signed in eleven bits (PostgreSQL 15 and
    later); -1 means that none was declared.
    """
    if typmod < 4:
        return None
    precision, scale = (typmod - 4) >> 16 & 0xFFFF, (typmod - 4) & 0x7FF
    scale = (scale ^ 1024) - 1024
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return (precision, scale) if precision <= MAX_DECIMAL_DIGITS else None


def fit(column: DescribedColumn, field: pa.Field, *, time_zone: str) -> ColumnPlan | None:
    """The plan that stores a column in a contract's type without loss, or None when there is none.

    Integers widen, into decimals and doubles too; decimals grow; anything may become text; a timestamp without a zone
    is read in ``time_zone`` where the contract has an instant. A numeric that declares no precision fits any decimal:
    each value is then checked on its own, and one with more digits is rejected.
    """
    import pyarrow as pa

    plan = replace(plan_column(column), required=not field.nullable)
    target, name = field.type, quoted(column.name)
    if plan.arrow == target:
        return plan
    if target == pa.string():
        return replace(plan, expression=as_text(column), wire="plain", arrow=target)
    if pa.types.is_integer(target) and column.oid in INTEGERS and plan.arrow.bit_width < target.bit_width:
        return replace(plan, expression=f"{name}::{ {32: 'integer', 64: 'bigint'}[target.bit_width] }", arrow=target)
    if pa.types.is_decimal128(target) and _digits_fit(column, target):
        if column.oid != NUMERIC:
            return replace(plan, expression=f"{name}::text", wire="decimal", arrow=target)
        return _decimal_plan(replace(plan, expression=f"trim_scale({name})::text", wire="decimal", arrow=target), name)
    if target == pa.float64() and column.oid in (21, 23, 700):
        return replace(plan, expression=f"{name}::double precision", arrow=target)
    if target == pa.timestamp("us", tz="UTC") and column.oid == TIMESTAMP:
        return replace(plan, expression=f"({name} AT TIME ZONE {literal(time_zone)})", arrow=target)
    return None


def contract_plans(
    table: str, described: Sequence[DescribedColumn], contract: Contract, *, time_zone: str
) -> list[ColumnPlan]:
    """The plan of each column by :func:`fit`, in the order given.

    :raises SchemaMismatchError: columns that are not in the contract, or do not fit its type; all of them at once.
    """
    from tallyclerk.contracts.projections import arrow_schema

    schema = arrow_schema(contract, derived=False)
    plans: list[ColumnPlan] = []
    differences: list[str] = []
    for column in described:
        if column.name not in schema.names:
            differences.append(f"{column.name} is not in the contract")
            continue
        target = schema.field(column.name)
        if plan := fit(column, target, time_zone=time_zone):
            plans.append(plan)
        else:
            differences.append(f"{column.name} is {column.type_name}, which {target.type} does not hold exactly")
    if differences:
        raise SchemaMismatchError(table=table, differences=differences)
    return plans


def literal(text: str) -> str:
    """A text as an SQL string, whatever ``standard_conforming_strings`` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _digits_fit(column: DescribedColumn, target: pa.Decimal128Type) -> bool:
    if column.oid in INTEGERS:
        return INTEGERS[column.oid][1] <= target.precision - target.scale
    if column.oid != NUMERIC:
        return False
    if column.typmod < 4:
        return True
    digits = decimal_digits(column.typmod)
    return digits is not None and digits[1] <= target.scale and digits[0] - digits[1] <= target.precision - target.scale


def _decimal_plan(plan: ColumnPlan, name: str) -> ColumnPlan:
    """A plan by a numeric's text, or the same by what the server sends for it."""
    if plan.arrow.precision > MAX_DIGITS:
        return plan
    return replace(plan, expression=f"pg_catalog.numeric_send({name})", wire="numeric")


def _plan(column: DescribedColumn, expression: str, wire: Wire, arrow: pa.DataType) -> ColumnPlan:
    return ColumnPlan(column.name, column.type_name, expression, wire, arrow)
