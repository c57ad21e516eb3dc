"""What the tests of this folder share: where the database is, and what an extract holds."""

import pyarrow as pa
import pyarrow.parquet as pq
from psycopg.conninfo import make_conninfo

from stack.settings import LOOPBACK, Settings
from tallyclerk.core.extract import Extract


def conninfo(settings: Settings) -> str:
    return make_conninfo(
        host=LOOPBACK,
        port=settings.port("POSTGRES"),
        user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"),
        dbname="retail",
    )


def rows_of(extract: Extract) -> pa.Table:
    tables = [pq.read_table(file.path) for file in extract.files]
    return pa.concat_tables(tables) if tables else extract.schema.empty_table()


def rejects_of(extract: Extract) -> list[dict[str, object]]:
    return pq.read_table(extract.rejects.path).to_pylist() if extract.rejects else []
