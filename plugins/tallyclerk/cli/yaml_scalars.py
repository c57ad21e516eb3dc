"""YAML in which a scalar keeps the text it was written as.

YAML reads the password ``0123`` as 83, ``1e5`` as a float and ``yes`` as True. Where a settings file means text, the
text as written is what counts; where it means JSON (a connection's extra), the type counts. So both are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number, truth value or date: as written, and as YAML reads it."""

    text: str
    value: object


class YamlProblemError(ValueError):
    """Text that is not YAML. The message gives the place, not the line's content, which may be a secret."""


class _ScalarLoader(yaml.SafeLoader):
    """A safe loader that yields :class:`Scalar` and refuses a key written twice (plain YAML keeps the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


def _keep_text(tag: str) -> None:
    plain = yaml.SafeLoader.yaml_constructors[tag]

    def construct(loader: _ScalarLoader, node: yaml.ScalarNode) -> Scalar:
        return Scalar(str(node.value), plain(loader, node))

    _ScalarLoader.add_constructor(tag, construct)


for _name in ("int", "float", "bool", "timestamp"):
    _keep_text(f"tag:yaml.org,2002:{_name}")


def parse_yaml(text: str) -> object:
    """Parse one YAML document.

    :return: mappings, lists, ``str``, :class:`Scalar` and None.
    :raises YamlProblemError: the text is not one YAML document.
    """
    try:
        return yaml.load(text, Loader=_ScalarLoader)  # noqa: S506  a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlProblemError(f"{place}{error.problem or 'not valid YAML'}") from None
    except yaml.YAMLError as error:
        raise YamlProblemError(f"not valid YAML ({type(error).__name__})") from None
    except ValueError:  # a date such as 2026-02-30
        raise YamlProblemError("holds a number or date that does not exist; put it in quotes") from None


def plain(tree: object) -> Any:
    """Return the tree as JSON can hold it: numbers and truth values typed, dates and keys as text."""
    if isinstance(tree, Scalar):
        return tree.value if isinstance(tree.value, (bool, int, float)) else tree.text
    if isinstance(tree, dict):
        return {key.text if isinstance(key, Scalar) else str(key): plain(value) for key, value in tree.items()}
    return [plain(item) for item in tree] if isinstance(tree, list) else tree
