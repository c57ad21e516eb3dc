"""What ``spark_jobs/load_csv.py`` is told: the same contract, options and files that the engine on the worker reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tallyclerk.contracts.model import Rule
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.csv_query import CsvQuery
from tallyclerk.sources.landing_file import count_lines, file_digest

_RULE = ("id", "column", "check", "violation", "message", "on_violation")
_TABLE_RULE = ("id", "check", "violation", "measure", "message", "on_violation")


def refuse_what_spark_cannot(source: CsvFiles, window: Window) -> None:
    """Say at once what the cluster's engine would refuse after its start; what it alone can judge (SQL) it judges itself.

    :raises SpecError: with every reason.
    """
    reasons = [f"{path.name} is .zst" for path in source.files(window) if path.suffix == ".zst"]
    try:
        newline = "\n".encode(source.dialect.encoding)
    except LookupError:
        raise SpecError(
            f"{source.dialect.encoding!r} is no encoding that Python knows; mend the contract's `encoding`."
        ) from None
    if newline != b"\n":
        reasons.append(f"lines in {source.dialect.encoding} do not end with the one byte that Spark splits them at")
    reasons += [f"column {column.name} is bytes" for column in source.contract.columns if column.kind == "bytes"]
    if reasons:
        raise SpecError(f"engine='spark' cannot load this: {'; '.join(reasons)}. Use engine='local'.")


def spark_spec(source: CsvFiles, window: Window, *, target: str, quarantine: str, former: str) -> dict[str, Any]:
    """The JSON document that ``spark_jobs/csv_spec.py`` describes. Reads each file once, for its digest and lines.

    :param target, quarantine: URIs of the tables.
    :param former: load id of the window's receipt when this attempt began, "" where it had none.
    """
    contract, dialect = source.contract, source.dialect
    files = [_file(path) for path in source.files(window)]
    return {
        "dataset": contract.dataset,
        "window": window.key,
        "load_id": source.load_id,
        "contract_version": contract.version,
        "fingerprint": source.fingerprint_of([(path.name, facts["sha256"]) for path, facts in files]),
        "target": target,
        "quarantine": quarantine,
        "former": former,
        "files": [facts for _, facts in files],
        "dialect": {
            name: getattr(dialect, name) for name in ("delimiter", "quote", "escape", "header", "null_text", "encoding")
        },
        "columns": [
            {name: getattr(column, name) for name in ("name", "type", "text_format", "derived")}
            for column in contract.columns
        ],
        "rules": [_facts(rule, _RULE) for rule in CsvQuery(contract, dialect, source.required, source.filters).rules],
        "table_rules": [_facts(rule, _TABLE_RULE) for rule in contract.table_rules],
        "filters": list(source.filters),
        "deduplicate_by": list(source.deduplicate_by),
        "mode": dialect.parse_mode,
        "max_rejected_ratio": source.max_rejected_ratio,
    }


def _file(path: Path) -> tuple[Path, dict[str, Any]]:
    """A file's facts; the lines of a compressed one are not known before it is read."""
    facts: dict[str, Any] = {"uri": path.absolute().as_uri(), "bytes": path.stat().st_size}
    if path.suffix == ".gz":
        return path, facts | {"sha256": file_digest(path)}
    digest, lines = count_lines(path)
    return path, facts | {"sha256": digest, "lines": lines}


def _facts(rule: Rule, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(rule, name) or "" if name == "column" else getattr(rule, name) for name in names}
