"""Start order, stop order, and choosing by name."""

from dataclasses import replace

import pytest

from stack.errors import StackError
from stack.service import Service, dependants, select
from stack.services import SERVICES
from stack.settings import PORTS, ROOT


def service(name: str, *depends_on: str, group: str = "") -> Service:
    return Service(name=name, group=group or name, depends_on=depends_on, healthy=lambda settings, since: True)


CHAIN = (service("c", "b", group="end"), service("b", "a"), service("a"), service("x"))


def names(services: list[Service]) -> list[str]:
    return [service.name for service in services]


def test_dependencies_come_first_and_unrelated_services_stay_out() -> None:
    assert names(select(CHAIN, ["c"])) == ["a", "b", "c"]


def test_a_group_name_selects_its_members() -> None:
    assert names(select(CHAIN, ["end"])) == ["a", "b", "c"]


def test_stopping_takes_dependants_along_and_stops_them_first() -> None:
    assert names(dependants(CHAIN, ["b"])) == ["c", "b"]


def test_no_name_means_all() -> None:
    assert set(names(select(CHAIN, []))) == {"a", "b", "c", "x"}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StackError, match=r"'d'.*a, b, end, x"):
        select(CHAIN, ["d"])


def test_a_circle_is_refused() -> None:
    with pytest.raises(StackError, match="circle"):
        select((service("a", "b"), service("b", "a")), [])


def test_every_service_has_known_ports_and_a_pom() -> None:
    for entry in SERVICES:
        assert all(f"TALLYCLERK_{port}_PORT" in PORTS for port in entry.ports), entry.name
        assert all((ROOT / "stack" / "maven" / name / "pom.xml").exists() for name in entry.maven), entry.name


def test_no_port_belongs_to_two_services() -> None:
    ports = [port for entry in SERVICES for port in entry.ports]
    assert len(ports) == len(set(ports))


def test_airflow_comes_after_its_database() -> None:
    order = names(select(SERVICES, []))
    assert order.index("postgres") < order.index("airflow-database") < order.index("airflow-api-server")


def test_an_optional_service_starts_only_by_its_name_and_stops_with_all() -> None:
    services = (*CHAIN, replace(service("extra"), optional=True))
    assert "extra" not in names(select(services, []))
    assert names(select(services, ["extra"])) == ["extra"]
    assert "extra" in names(dependants(services, []))
