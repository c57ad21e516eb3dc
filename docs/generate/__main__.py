"""``python -m docs.generate`` prints every table by its name, as JSON of Markdown texts."""

from __future__ import annotations

import json

from docs.generate import command_line, contract_fields, decisions, metrics, operators, settings

TABLES = {
    "command-line": command_line.markdown,
    "contract-fields": contract_fields.markdown,
    "decisions": decisions.markdown,
    "metrics": metrics.markdown,
    "operators": operators.markdown,
    "settings": settings.markdown,
}

print(json.dumps({name: markdown() for name, markdown in TABLES.items()}))
