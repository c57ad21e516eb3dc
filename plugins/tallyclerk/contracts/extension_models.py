"""The shapes of our own customProperties, at the YAML border. Import this module lazily: it loads pydantic."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

_ISO_DURATION = re.compile(r"P(?=.)(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?")


def _iso_duration(value: object) -> object:
    """Refuse what pydantic reads beyond ISO 8601 (``2 days``, a bare number of seconds)."""
    if not isinstance(value, str) or not _ISO_DURATION.fullmatch(value):
        raise ValueError("is not a duration; write it as in PT10M or P2D")
    return value


CassandraName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=48)]
Words = Annotated[str, Field(min_length=1)]
Duration = Annotated[timedelta, BeforeValidator(_iso_duration), Field(strict=False, ge=timedelta())]


class Strict(BaseModel):
    """Unknown keys are refused, and nothing is converted (``"true"`` is not a truth value)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class CsvProperty(Strict):
    """``csv`` on a server of format csv: the dialect beyond the standard's ``delimiter`` and ``encoding``."""

    header: bool = True
    quote: str = Field(default='"', max_length=1)
    escape: str = Field(default='"', max_length=1)
    null_text: str = ""
    parse_mode: Literal["PERMISSIVE", "DROPMALFORMED", "FAILFAST"] = "PERMISSIVE"


class RestProperty(Strict):
    """``rest`` on a server of type api: where an answer keeps its rows, and how the next page is asked for."""

    data_key: Words
    total_key: Words | None = None
    paging: Literal["page", "offset", "cursor", "link"] = "page"
    page: Words = "page"
    first_page: int = Field(default=1, ge=0, le=1)
    limit: Words = "limit"
    page_size: int = Field(default=100, ge=1)
    offset: Words = "offset"
    cursor: Words = "cursor"
    next_cursor_key: Words = "next_cursor"
    since: Words | None = None
    until: Words | None = None


class KafkaProperty(Strict):
    """``kafka`` on the schema."""

    topic: str = Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=249)
    key: list[str] = Field(min_length=1)


class CassandraProperty(Strict):
    """``cassandra`` on the schema; ``columns`` names every Cassandra column and the contract's column it is filled from.

    ``indexes`` names the columns that rows are also asked for by."""

    keyspace: CassandraName
    table: CassandraName
    partition_key: list[str] = Field(min_length=1)
    clustering_key: list[str] = Field(default_factory=list)
    clustering_order: dict[str, Literal["asc", "desc"]] = Field(default_factory=dict)
    columns: dict[CassandraName, str] = Field(min_length=1)
    types: dict[str, str] = Field(default_factory=dict)
    indexes: list[str] = Field(default_factory=list)


class IncrementalProperty(Strict):
    """``incremental`` on the schema; ``lookback`` is an ISO 8601 duration such as PT10M."""

    column: str
    lookback: Duration = timedelta()


class LateProperty(Strict):
    """``late`` on the document; ``after`` is an ISO 8601 duration such as P2D."""

    after: Duration
    action: Literal["quarantine", "accept"]


MODELS: dict[str, type[BaseModel]] = {
    "csv": CsvProperty,
    "rest": RestProperty,
    "namespace": RootModel[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]],
    "kafka": KafkaProperty,
    "cassandra": CassandraProperty,
    "incremental": IncrementalProperty,
    "onViolation": RootModel[Literal["reject", "warn", "fail"]],
    "late": LateProperty,
}
