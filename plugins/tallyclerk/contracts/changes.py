"""The columns of a change event: the contract's own, and what a change says about itself.

Both kinds of change capture, every topic of changes and the change tables on HDFS have this schema. An event holds a row
as it was after the change; a deletion holds what the database still told of the row, at least its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

OP = "__op"
LSN = "__lsn"
COMMITTED_MS = "__ts_ms"
DELETED = "__deleted"

READ, CREATE, UPDATE, DELETE = "r", "c", "u", "d"
"""Values of ``__op``: a row read from the table (a snapshot), and the three kinds of change. Query capture cannot tell a
new row from a changed one: both are ``u``."""


def change_key(contract: Contract) -> tuple[str, ...]:
    """The columns that name a row: the contract's message key, else its primary key.

    :raises SpecError: the contract has neither, or the key is made of derived columns, which no change brings.
    """
    key = contract.kafka.key if contract.kafka else contract.primary_key
    if not key:
        raise SpecError(
            f"{contract.path}: changes need a key; add the customProperty `kafka` with one, or `primaryKey: true`."
        )
    if derived := [name for name in key if contract.column(name).derived is not None]:
        raise SpecError(f"{contract.path}: the key has derived columns ({', '.join(derived)}), which no change brings.")
    return key


def change_schema(contract: Contract) -> pa.Schema:
    """Arrow schema of change events.

    The contract's source columns in its order, of which the key's are required and all others nullable: a deletion may
    know nothing but the key. Then

    * ``__op`` string: ``r``, ``c``, ``u`` or ``d``;
    * ``__lsn`` int64, nullable: the position of the change's commit in the database's log. All changes of one transaction
      share it, and a row that was read has the position from which the log is followed, so that it never decreases
      in a key's messages. Null where the log was not read (query capture);
    * ``__ts_ms`` int64, nullable: the commit's time, milliseconds since 1970 by the database's clock. Null where that is not known;
    * ``__deleted`` bool: ``__op`` is ``d``.

    :raises SpecError: see :func:`change_key`.
    """
    import pyarrow as pa

    from tallyclerk.contracts.projections import arrow_schema

    key = change_key(contract)
    columns = [field.with_nullable(field.name not in key) for field in arrow_schema(contract, derived=False)]
    own = [
        pa.field(OP, pa.string(), nullable=False),
        pa.field(LSN, pa.int64()),
        pa.field(COMMITTED_MS, pa.int64()),
        pa.field(DELETED, pa.bool_(), nullable=False),
    ]
    return pa.schema([*columns, *own])
