"""``airflow tallyclerk validate``: check contracts offline, and say everything that is wrong with them at once.

It needs no service and no metadata database, so it is not recorded in Airflow's audit log as other commands are.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, complain, table
from tallyclerk.contracts import Contract, load_contract
from tallyclerk.exceptions import SpecError, SpecErrors

SUFFIXES = (".odcs.yaml", ".odcs.yml")


def validate(args: Namespace) -> None:
    """Print a line for each good contract, and all findings about the others.

    Ends with exit code 0 when all are good, 1 with findings, 2 when a path holds no contract.
    """
    try:
        paths = find_contracts(args.paths)
    except SpecError as refusal:
        complain(str(refusal))
        raise SystemExit(EXIT_REFUSED) from None
    contracts, findings = check_contracts(paths)
    if contracts:
        print(table(("contract", "version", "columns", "rules", "file"), [_line(contract) for contract in contracts]))
    if findings:
        complain(str(SpecErrors(findings)))
    raise SystemExit(EXIT_FAILED if findings else EXIT_OK)


def find_contracts(paths: Iterable[str]) -> list[Path]:
    """Return the named files, and the contracts of the named folders.

    :raises SpecError: a path does not exist, or a folder holds no contract.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES))
            if not inside:
                raise SpecError(f"{path}: holds no contract; name a file, or a folder with *{SUFFIXES[0]}")
            found |= dict.fromkeys(inside)
        elif path.exists():
            found[path] = None
        else:
            raise SpecError(f"{path}: there is no such file or folder; name one: airflow tallyclerk validate PATH")
    return list(found)


def check_contracts(paths: Iterable[Path]) -> tuple[list[Contract], Sequence[str]]:
    """Return the good contracts, and the findings about all others and between them."""
    contracts: list[Contract] = []
    findings: list[str] = []
    first: dict[str, Path] = {}
    for path in paths:
        try:
            contract = load_contract(path)
        except SpecErrors as refusal:
            findings += refusal.findings
            continue
        if (other := first.setdefault(contract.dataset, path)) != path:
            findings.append(f"{path}: schema[0].name: {contract.dataset!r} is also the data set of {other}; rename one")
        contracts.append(contract)
    return contracts, findings


def _line(contract: Contract) -> tuple[object, ...]:
    return contract.dataset, contract.version, len(contract.columns), len(contract.rules), contract.path
