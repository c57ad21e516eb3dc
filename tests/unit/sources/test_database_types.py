"""The policy of types, without a server."""

import pyarrow as pa
import pytest

from tallyclerk.sources.database_types import DescribedColumn, decimal_digits, fit, plan_column


def typmod(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


@pytest.mark.parametrize(
    ("modifier", "digits"),
    [
        (typmod(12, 2), (12, 2)),
        (typmod(38, 38), (38, 38)),
        (typmod(3, -2), (5, 0)),
        (typmod(3, 5), (5, 5)),
        (typmod(39, 0), None),
        (typmod(30, -10), None),
        (typmod(1000, 1000), None),
        (-1, None),
    ],
)
def test_a_numeric_has_the_decimal_that_holds_its_values(modifier: int, digits: tuple[int, int] | None) -> None:
    assert decimal_digits(modifier) == digits


def test_an_unknown_type_is_cast_to_text() -> None:
    plan = plan_column(DescribedColumn('odd "name"', 600, -1, "point"))
    assert plan.select == '"odd ""name"""::text AS "odd ""name"""'
    assert plan.arrow == pa.string()


INT4, INT8, NUMERIC, TEXT, TIMESTAMP, FLOAT8 = (
    DescribedColumn("x", oid, -1, name)
    for oid, name in (
        (23, "integer"),
        (20, "bigint"),
        (1700, "numeric"),
        (25, "text"),
        (1114, "timestamp"),
        (701, "double"),
    )
)
PRICE = DescribedColumn("x", 1700, typmod(12, 2), "numeric(12,2)")


@pytest.mark.parametrize(
    ("column", "target", "expression"),
    [
        (INT4, pa.int64(), '"x"::bigint'),
        (INT4, pa.decimal128(10, 0), '"x"::text'),
        (INT4, pa.float64(), '"x"::double precision'),
        (INT4, pa.string(), '"x"::text'),
        (PRICE, pa.decimal128(14, 4), 'pg_catalog.numeric_send("x")'),
        (NUMERIC, pa.decimal128(18, 2), 'pg_catalog.numeric_send("x")'),
        (NUMERIC, pa.decimal128(19, 2), 'trim_scale("x")::text'),
        (TIMESTAMP, pa.timestamp("us", tz="UTC"), "(\"x\" AT TIME ZONE E'Europe/Berlin')"),
        (INT8, pa.int32(), None),
        (INT8, pa.float64(), None),
        (INT4, pa.decimal128(9, 0), None),
        (PRICE, pa.decimal128(12, 3), None),
        (PRICE, pa.decimal128(12, 1), None),
        (PRICE, pa.float64(), None),
        (TEXT, pa.int32(), None),
        (FLOAT8, pa.decimal128(38, 10), None),
    ],
)
def test_a_contracts_type_is_taken_only_when_it_loses_nothing(
    column: DescribedColumn, target: pa.DataType, expression: str | None
) -> None:
    plan = fit(column, pa.field("x", target), time_zone="Europe/Berlin")
    assert (plan.expression if plan else None) == expression
