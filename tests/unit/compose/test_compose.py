"""The compose files in their four variants, and each rule on a copy that breaks it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator as Validator
from jsonschema import ValidationError

from stack.container import render_all
from stack.dotenv_file import SECRET_NAMES
from stack.errors import SettingError
from stack.services import SERVICES, prometheus
from stack.settings import HOSTS, PORTS, ROOT, load_settings
from tests.unit.compose.rules import RULES, Project, production
from tests.unit.compose.variants import VARIANTS, merged, plain, read, services, with_profile

SCHEMA = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
SEED_PORTS = {
    "hdfs-namenode": 9870, "spark-master": 8080, "flink-jobmanager": 8081, "airflow-api-server": 8082,
    "kafka-ui": 8083, "hdfs-browser": 8084, "cassandra-web": 8085, "jupyter": 8888,
}  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS)
def project(request: pytest.FixtureRequest) -> Project:
    return merged(*VARIANTS[request.param])


@pytest.mark.parametrize("name", sorted({name for names in VARIANTS.values() for name in names}))
def test_each_file_keeps_to_the_schema_of_compose(name: str) -> None:
    Validator(SCHEMA).validate(plain(read(name)))


def test_the_schema_finds_a_key_that_compose_does_not_know() -> None:
    document = plain(read("docker-compose.yaml"))
    document["services"]["kafka"]["helthcheck"] = {}
    with pytest.raises(ValidationError, match="helthcheck"):
        Validator(SCHEMA).validate(document)


@pytest.mark.parametrize("rule", RULES)
def test_each_variant_keeps_to_the_rule(project: Project, rule: str) -> None:
    assert list(RULES[rule](project)) == []


@pytest.mark.parametrize("rule", RULES)
def test_each_variant_keeps_to_the_rule_with_monitoring(project: Project, rule: str) -> None:
    monitored = with_profile(project, "monitoring")
    assert {"prometheus", "grafana"} <= {name for name, _ in services(monitored)}
    assert list(RULES[rule](monitored)) == []


def test_production_takes_secrets_from_files_and_opens_one_port() -> None:
    assert list(production(merged(*VARIANTS["prod"]))) == []
    assert list(production(with_profile(merged(*VARIANTS["prod"]), "monitoring"))) == []
    assert len(list(production(merged(*VARIANTS["base"])))) > len(SECRET_NAMES)


def _put(path: str, value: Any) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        *parents, last = path.split("/")
        place = project
        for each in parents:
            place = place[each]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("rule", "change", "finding"),
    [
        ("host_ports", _put("services/kafka/ports", ["127.0.0.1:9870:9092"]), "both on host port 9870"),
        ("host_ports", _put("services/kafka/ports", ["0.0.0.0:9092:9092"]), "open on 0.0.0.0"),
        ("health", _put("services/kafka/healthcheck", {"disable": True}), "kafka has no health check"),
        ("limits", _put("services/connect/deploy", {"resources": {"limits": {"cpus": "1"}}}), "connect has no limit"),
        ("restart", _put("services/connect/restart", None), "connect has no restart policy"),
        ("pins", _put("services/kafka/image", "${KAFKA:-apache/kafka}"), "no tag"),
        ("pins", _put("services/kafka/image", "apache/kafka:latest"), "no tag"),
        ("order", _put("services/connect/depends_on/registry/condition", "service_started"), "service_healthy"),
        ("order", _put("services/connect/depends_on/init-topics/condition", "service_healthy"), "completed"),
        ("order", _put("services/connect/depends_on/zookeeper", {"condition": "service_healthy"}), "not started"),
        ("mounts", _put("services/kafka/volumes", ["./stack/nothing:/scripts:ro"]), "not there"),
        ("mounts", _put("services/kafka/volumes", ["undeclared:/data"]), "no declared volume"),
        ("secrets", _put("services/kafka/environment/KAFKA_PASSWORD", "changeme"), "stands in the environment"),
        ("secrets", _put("services/shop/secrets", ["nothing"]), "is not declared"),
        ("secrets", _put("secrets/TALLYCLERK_JWT_SECRET", {"content": "changeme"}), "neither a variable"),
    ],
)  # fmt: skip
def test_the_rule_fails_on_a_broken_copy(rule: str, change: Callable[[Project], None], finding: str) -> None:
    broken = copy.deepcopy(merged(*VARIANTS["base"]))
    change(broken)
    assert any(finding in line for line in RULES[rule](broken))


def test_users_find_the_pages_on_the_ports_they_know() -> None:
    found = dict(services(merged(*VARIANTS["dev"])))
    for name, port in SEED_PORTS.items():
        assert f":-{port}}}:" in found[name]["ports"][0]


def test_every_service_of_the_stack_is_a_container() -> None:
    processes = {service.name for service in SERVICES if service.command}
    assert processes <= set(merged(*VARIANTS["base"])["services"])


def test_every_host_and_secret_is_known_to_the_containers() -> None:
    base = merged(*VARIANTS["base"])
    addresses = base["x-addresses"]
    assert {name for name in addresses if name.endswith("_HOST")} == set(HOSTS)
    assert {host for name, host in addresses.items() if name.endswith("_HOST")} <= set(base["services"])
    assert set(base["secrets"]) == set(SECRET_NAMES)


@pytest.mark.parametrize("name", ["hdfs-namenode", "postgres", "cassandra", "kafka", "registry"])
def test_a_port_inside_is_the_one_of_the_settings(name: str) -> None:
    service = merged(*VARIANTS["base"])["services"][name]
    text = json.dumps([service.get("ports"), service["healthcheck"]])
    known = {str(port) for port in PORTS.values()}
    assert set(re.findall(r"\b\d{4}\b", text)) <= known


@pytest.mark.parametrize(("name", "host"), [("kafka", "KAFKA"), ("cassandra", "CASSANDRA")])
def test_the_agent_of_a_foreign_image_has_our_port_and_rules(name: str, host: str) -> None:
    service = merged(*VARIANTS["base"])["services"][name]
    ((port, rules),) = re.findall(r"agent\.jar=0\.0\.0\.0:(\d+):/conf/(\S+\.yaml)", json.dumps(service))
    assert int(port) == PORTS[f"TALLYCLERK_{host}_METRICS_PORT"]
    assert (load_settings().conf / rules).exists()


def test_prometheus_finds_its_configuration_and_the_token_where_they_are_mounted() -> None:
    service = merged(*VARIANTS["base"])["services"]["prometheus"]
    home = "/opt/tallyclerk/home"
    settings = load_settings({"TALLYCLERK_HOME": home}, make_secrets=False)
    (secret,) = service["secrets"]
    assert secret["target"] == str(prometheus.token_file(settings))
    assert f"conf:{settings.rendered_conf}:ro" in service["volumes"]
    assert f"--config.file={settings.rendered_conf}/prometheus/prometheus.yml" in service["command"]


def test_the_configuration_of_containers_names_their_addresses_and_no_secret(tmp_path: Path) -> None:
    addresses = merged(*VARIANTS["base"])["x-addresses"]
    environ = {name: value for name, value in addresses.items() if isinstance(value, str) and "$" not in value}
    secrets = {name: f"s3cret-{number}" for number, name in enumerate(SECRET_NAMES)}
    settings = load_settings(
        {**environ, **secrets, "TALLYCLERK_HOME": str(tmp_path), "TALLYCLERK_TLS": "/certificates"}
    )
    render_all(settings)
    files = {
        path.relative_to(settings.rendered_conf): path.read_text()
        for path in settings.rendered_conf.rglob("*")
        if path.is_file()
    }
    assert "advertised.listeners=SASL_SSL://kafka:9092\n" in files[Path("kafka/server.properties")]
    assert "spark.driver.host airflow-scheduler\n" in files[Path("spark/spark-defaults.conf")]
    assert "hostssl" in files[Path("postgres/pg_hba.conf")]
    assert "[kafka:9502]" in files[Path("prometheus/prometheus.yml")].replace('"', "")
    assert not [path for path, text in files.items() if "s3cret" in text]
    # loopback is nowhere but in Hadoop's defaults, which the variables replace
    assert not [path for path, text in files.items() if "127.0.0.1" in text.replace(":-127.0.0.1", "")]


@pytest.mark.parametrize("name", ["flink-jobmanager", "flink-taskmanager", "connect"])
def test_a_container_can_prepare_itself_with_the_secrets_that_it_is_given(name: str, tmp_path: Path) -> None:
    given = merged(*VARIANTS["prod"])["services"][name]["secrets"]
    (service,) = [each for each in SERVICES if each.name == name]
    (tmp_path / "jars" / "connect" / "apicurio-converter").mkdir(parents=True)
    environ = {
        "TALLYCLERK_ENV_FILE": str(tmp_path / "none"), "TALLYCLERK_HOME": str(tmp_path),
        "TALLYCLERK_TLS": "/certificates", "TALLYCLERK_LISTEN": "0.0.0.0",
    }  # fmt: skip
    with pytest.raises(SettingError, match="has no value"):
        service.prepare(load_settings(environ, make_secrets=False))
    environ |= {secret: f"s3cret of {secret}" for secret in given}
    service.prepare(load_settings(environ, make_secrets=False))
    written = {path: path.read_text() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    assert all("s3cret" in text for text in written.values())
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


def test_production_has_the_connections_of_all_others() -> None:
    import yaml

    def ids(path: Path) -> list[str]:
        return [each["conn_id"] for each in yaml.safe_load(path.read_text())["airflow"]["connections"]]

    assert ids(ROOT / "include" / "deploy" / "airflow_settings.prod.yaml") == ids(ROOT / "airflow_settings.yaml")
