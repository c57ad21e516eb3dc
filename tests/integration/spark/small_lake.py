"""Raw tables written by delta-rs, as the provider writes them, and what must follow from them, by DuckDB and Decimal."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

DAY_ONE = date(2026, 1, 29)  # so that the days cross a month
MONEY = pa.decimal128(12, 2)
SALES = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("household_id", pa.int64()),
        ("store_id", pa.int64()),
        ("basket_id", pa.int64()),
        ("product_id", pa.string()),
        ("quantity", pa.int32()),
        ("sales_value", MONEY),
        ("retail_disc", MONEY),
        ("coupon_disc", MONEY),
        ("coupon_match_disc", MONEY),
        ("week", pa.int32()),
        ("transaction_timestamp", pa.timestamp("us", tz="UTC")),
        ("transaction_date", pa.date32()),
    ]
)
DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
CUSTOMERS = pa.schema(
    [
        ("household_id", pa.int64()),
        *((name, pa.string()) for name in DEMOGRAPHICS),
        ("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)
CATALOGUE = ("product_id", "department", "brand", "product_category", "product_type")
PRODUCTS = pa.schema([(name, pa.string()) for name in CATALOGUE])


def day(number: int) -> date:
    return DAY_ONE + timedelta(days=number)


def sale(key: str, sold: int, cents: int, household: int = 1, product: str = "p") -> dict[str, Any]:
    """A row of the contract; ``sold`` is the number of the event date."""
    at = datetime(*day(sold).timetuple()[:3], 23, 59, 59, tzinfo=UTC)
    zero = Decimal("0.00")
    return dict(
        zip(
            SALES.names,
            (key, household, 1, 1, product, 1, Decimal(cents) / 100, zero, zero, zero, 5, at, at.date()),
            strict=True,
        )
    )


@dataclass
class SmallLake:
    """A lake, and the truth about its raw rows: number of the arrival day → rows."""

    uri: str
    sales: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    customers: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    departments: dict[int, dict[str, str]] = field(default_factory=dict)

    def load_sales(self, number: int, rows: list[dict[str, Any]]) -> None:
        """Load, or correct, the window of a day."""
        self.sales[number] = rows
        self._replace("raw/transactions", number, pa.Table.from_pylist(rows, SALES))

    def load_customers(self, number: int, ages: dict[int, str]) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [{"household_id": household, "age": age, "updated_at": at} for household, age in ages.items()]
        self.customers[number] = rows
        self._replace("raw/customers", number, pa.Table.from_pylist(rows, CUSTOMERS))

    def load_products(self, number: int, departments: dict[str, str]) -> None:
        self.departments[number] = departments
        rows = [{"product_id": product, "department": department} for product, department in departments.items()]
        self._replace("raw/products", number, pa.Table.from_pylist(rows, PRODUCTS))

    def _replace(self, path: str, number: int, table: pa.Table) -> None:
        parts = {"year": day(number).year, "month": day(number).month, "day": day(number).day}
        for name, value in parts.items():
            table = table.append_column(name, pa.array([value] * len(table), pa.int32()))
        uri = f"{self.uri}/{path}"
        exists = DeltaTable.is_deltatable(uri)
        where = " and ".join(f"{name} = {value}" for name, value in parts.items())
        write_deltalake(uri, table, partition_by=list(parts), mode="overwrite", predicate=where if exists else None)

    def rows(self, path: str) -> list[dict[str, Any]]:
        return DeltaTable(f"{self.uri}/{path}").to_pyarrow_table().to_pylist()

    def version(self, path: str) -> int:
        return DeltaTable(f"{self.uri}/{path}").version()

    def expected_sales(self) -> list[tuple[Any, ...]]:
        """(id, arrival, event date, cents, household): each sale's newest version."""
        flat = [
            (row["transaction_id"], day(number), row["transaction_date"], row["sales_value"], row["household_id"])
            for number, rows in self.sales.items()
            for row in rows
        ]
        with duckdb.connect() as duck:
            duck.execute("CREATE TABLE raw (id TEXT, arrived DATE, sold DATE, amount DECIMAL(12,2), household BIGINT)")
            if flat:
                duck.executemany("INSERT INTO raw VALUES (?, ?, ?, ?, ?)", flat)
            return duck.execute(
                "SELECT * FROM raw QUALIFY row_number() OVER "
                "(PARTITION BY id ORDER BY arrived DESC, sold DESC, household DESC, amount DESC) = 1 ORDER BY ALL"
            ).fetchall()

    def check(self, only: set[date] | None = None) -> None:
        """All tables hold what the raw rows demand (of the event dates ``only``): no row more, none less, to the cent."""
        expected = [row for row in self.expected_sales() if only is None or row[2] in only]
        processed = self.rows("processed/transactions")
        assert _facts(processed) == expected
        assert all(_partition(row) == row["transaction_date"] for row in processed)

        enriched = self.rows("enriched/transactions")
        assert _facts(enriched) == expected
        for row in enriched:
            snapshot = max((n for n in self.customers if day(n) <= row["transaction_date"]), default=None)
            ages = {customer["household_id"]: customer["age"] for customer in self.customers.get(snapshot, [])}
            assert row["customer_snapshot_date"] == (None if snapshot is None else day(snapshot))
            assert (row["customer_is_known"], row["age"]) == (
                row["household_id"] in ages,
                ages.get(row["household_id"]),
            )

        customers: dict[tuple[str, date], list[Decimal]] = {}
        for _, _, sold, amount, household in expected:
            customers.setdefault((str(household), sold), []).append(amount)
        assert self._kpis("customer") == _summed(customers)

        departments: dict[tuple[str, date], list[Decimal]] = {}
        for row in enriched:
            snapshot = max((n for n in self.departments if day(n) <= row["transaction_date"]), default=None)
            department = self.departments.get(snapshot, {}).get(row["product_id"])
            assert (row["product_is_known"], row["department"]) == (department is not None, department)
            departments.setdefault((department or "UNKNOWN", row["transaction_date"]), []).append(row["sales_value"])
        assert self._kpis("department") == _summed(departments)

    def _kpis(self, name: str) -> list[tuple[Any, ...]]:
        key = "customer_id" if name == "customer" else name
        columns = (key, "date", "total_amount", "transaction_count", "avg_transaction_value")
        return sorted(tuple(row[column] for column in columns) for row in self.rows(f"enriched/{name}_kpis"))


def _summed(amounts: dict[tuple[str, date], list[Decimal]]) -> list[tuple[Any, ...]]:
    return sorted(
        (*key, sum(group), len(group), (sum(group) / len(group)).quantize(Decimal("0.01"), ROUND_HALF_UP))
        for key, group in amounts.items()
    )


def _facts(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("transaction_id", "arrival_date", "transaction_date", "sales_value", "household_id")
    return sorted(tuple(row[name] for name in names) for row in rows)


def _partition(row: dict[str, Any]) -> date:
    return date(row["year"], row["month"], row["day"])
