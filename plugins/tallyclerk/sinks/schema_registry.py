"""The schema registry, by the calls that Confluent's and Apicurio's (``/apis/ccompat/v7``) share.

Small on purpose: Confluent's client drops the reasons of an incompatibility, which are what a user needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from tallyclerk.exceptions import IncompatibleSchemaError, ServiceUnavailableError, SpecError

Register = Literal["never", "if_compatible"]
_MIME = "application/vnd.schemaregistry.v1+json"
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422
_REFUSED = (401, 403)
_AWAY = 500


class SchemaRegistry:
    """Avro schemas by subject and id. Safe to use again after an error.

    :param url: e.g. ``http://127.0.0.1:8181/apis/ccompat/v7``.
    :param auth: login and password, for basic authentication; those of the URL when None. No message repeats them.
    :param verify: False, or the path of a certificate authority, as httpx takes it.
    :raises ServiceUnavailableError: (every call) no answer, or one that says to come back.
    :raises SpecError: (every call) refused login, or a schema that the registry cannot read.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: tuple[str, str] | None = None,
        verify: bool | str = True,
        timeout_seconds: float = 30,
        retries: int = 2,
    ) -> None:
        import httpx

        address = httpx.URL(url.rstrip("/"))
        if address.userinfo:
            auth = auth or (address.username, address.password)
            address = address.copy_with(userinfo=b"")
        self.url = str(address)
        self._client = httpx.Client(
            base_url=self.url,
            auth=auth,
            timeout=timeout_seconds,
            headers={"Accept": _MIME, "Content-Type": _MIME},
            # the proxy variables of a worker are not for services of its own house
            trust_env=False,
            transport=httpx.HTTPTransport(retries=retries, verify=verify),
        )
        self._schemas: dict[int, dict[str, Any]] = {}

    def schema(self, schema_id: int) -> dict[str, Any] | None:
        """The schema of an id, None when there is none; asked once, as ids never change their meaning."""
        if schema_id not in self._schemas:
            answer = self._call("GET", f"/schemas/ids/{schema_id}")
            if answer is None:
                return None
            self._schemas[schema_id] = json.loads(answer["schema"])
        return self._schemas[schema_id]

    def latest(self, subject: str) -> dict[str, Any] | None:
        """The subject's newest schema, None when it has none."""
        answer = self._call("GET", f"/subjects/{quote(subject, safe='')}/versions/latest")
        return None if answer is None else json.loads(answer["schema"])

    def lookup(self, subject: str, schema: Mapping[str, Any]) -> int | None:
        """The id under which exactly this schema is registered, None when it is not."""
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}", schema)
        return None if answer is None else int(answer["id"])

    def incompatibility(self, subject: str, schema: Mapping[str, Any]) -> str | None:
        """Why the subject's rule would refuse the schema; None when it would not.

        Confluent's registry gives reasons. Apicurio's gives none before a registration: then the differences to the newest
        schema are told.
        """
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._call("POST", path, schema)
        if answer is None or answer["is_compatible"]:
            return None
        reasons = [str(reason) for reason in answer.get("messages") or ()]
        return "; ".join(reasons or _differences(self.latest(subject) or {}, schema))

    def register(self, subject: str, schema: Mapping[str, Any]) -> int:
        """Register, or find what is registered already.

        :raises IncompatibleSchemaError: the subject's rule refuses it.
        """
        answer = self._call("POST", f"/subjects/{quote(subject, safe='')}/versions", schema)
        if answer is None:
            raise SpecError(f"{self.url} knows no subjects (404); correct the registry's address.")
        return int(answer["id"])

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, schema: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON; None for 404."""
        import httpx

        body = None if schema is None else {"schemaType": "AVRO", "schema": json.dumps(schema)}
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise self._away(f"{type(error).__name__}: {error}") from error
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.is_success:
            return answer.json()
        said = _message(answer.text)
        if answer.status_code == _CONFLICT:
            raise IncompatibleSchemaError(subject=_subject_in(path), reason=said)
        if answer.status_code in _REFUSED:
            raise SpecError(
                f"The schema registry at {self.url} refused ({answer.status_code}): {said}. Correct its login."
            )
        if answer.status_code == _UNPROCESSABLE:
            raise SpecError(f"The schema registry at {self.url} cannot read the schema: {said}.")
        if answer.status_code >= _AWAY or answer.status_code in (408, 429):
            raise self._away(f"HTTP {answer.status_code}: {said}")
        raise SpecError(
            f"The schema registry at {self.url} answered {method} {path} with {answer.status_code}: {said}."
        )

    def _away(self, cause: str) -> ServiceUnavailableError:
        return ServiceUnavailableError(service="The schema registry", address=self.url, cause=cause)


def ensure_subject(registry: SchemaRegistry, subject: str, schema: Mapping[str, Any]) -> int:
    """Make the schema the subject's newest unless it is registered already; its id. Idempotent.

    :raises IncompatibleSchemaError: the subject's compatibility rule refuses it; nothing was changed.
    """
    return schema_id_for(registry, subject, schema, register="if_compatible")


def schema_id_for(registry: SchemaRegistry, subject: str, schema: Mapping[str, Any], *, register: Register) -> int:
    """The id to write with.

    :raises IncompatibleSchemaError: the subject's rule refuses it.
    :raises SpecError: it is not registered, and ``register`` is ``never``.
    """
    known = registry.lookup(subject, schema)
    if known is not None:
        return known
    reason = registry.incompatibility(subject, schema)
    if reason is not None:
        raise IncompatibleSchemaError(subject=subject, reason=reason)
    if register == "never":
        raise SpecError(
            f"The schema is not registered under {subject!r}, and it is compatible with what is. Register it "
            "(`ensure_subject`), or pass register='if_compatible'; nothing was sent."
        )
    return registry.register(subject, schema)


def _differences(former: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    old = {field["name"]: field for field in former.get("fields", ())}
    new = {field["name"]: field for field in schema.get("fields", ())}
    found = [f"the registered {name!r} is missing" for name in old if name not in new]
    for name, field in new.items():
        if name not in old and "default" not in field:
            found.append(f"{name!r} is new and has no default")
        elif name in old and old[name]["type"] != field["type"]:
            found.append(f"{name!r} was {json.dumps(old[name]['type'])} and is {json.dumps(field['type'])}")
    if _full_name(former) != _full_name(schema):
        found.append(f"the record was called {_full_name(former)} and is called {_full_name(schema)}")
    return found or ["the registry gives no reason"]


def _full_name(schema: Mapping[str, Any]) -> str:
    return ".".join(filter(None, (schema.get("namespace"), schema.get("name"))))


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]


def _subject_in(path: str) -> str:
    return path.split("/subjects/", 1)[-1].split("/", 1)[0]
