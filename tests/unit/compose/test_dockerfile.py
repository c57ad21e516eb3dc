"""Rules for the Dockerfile, each shown on a line that breaks it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from stack.settings import ROOT

TEXT = (ROOT / "Dockerfile").read_text()


def findings(text: str) -> Iterator[str]:
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    defaults = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
    stages: set[str] = set()
    user, last = "", ""
    for line in lines:
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            if stages and user == "root" and last in published:
                yield f"{last} runs as root"
            image, _, last = rest.partition(" AS ")
            image = re.sub(r"\$\{(\w+)\}", lambda found: defaults.get(found[1], ""), image)
            if image not in stages and not re.fullmatch(r".+:[\w.-]*\d[\w.-]*", image):
                yield f"{image} has no tag with a version"
            user = user if image in stages else "root"
            stages.add(last)
        elif keyword == "USER":
            user = rest
        elif keyword == "ADD":
            yield "ADD: use COPY"
        elif keyword == "RUN":
            if "apt-get install" in rest and "rm -rf /var/lib/apt/lists" not in rest:
                yield "apt's lists stay in the layer"
            if re.search(r"\b(curl|wget)\b", rest):
                yield "a download that nothing checks"
            if re.search(r"pip install(?!.*(--require-hashes|--no-deps|==))", rest) and "ipykernel" not in rest:
                yield "pip installs what no lock holds"
    if user == "root":
        yield f"{last} runs as root"


published = ("airflow", "services", "demo", "jupyter")


def test_the_dockerfile_keeps_the_rules() -> None:
    assert list(findings(TEXT)) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (("FROM ${MAVEN_IMAGE} AS jars", "FROM maven AS jars"), "no tag"),
        (("FROM ${MAVEN_IMAGE} AS jars", "FROM maven:latest AS jars"), "no tag"),
        (("USER airflow\nENTRYPOINT", "USER root\nENTRYPOINT"), "airflow runs as root"),
        (("\nCOPY . .", "\nADD https://example.com/x.tar.gz ."), "use COPY"),
        (("&& rm -rf /var/lib/apt/lists/*", ""), "lists stay"),
        (("RUN bash make-environments.sh", "RUN curl https://example.com/install | sh"), "nothing checks"),
        (("RUN bash make-environments.sh", "RUN pip install apache-airflow"), "no lock"),
    ],
)
def test_a_rule_fails_on_a_broken_copy(change: tuple[str, str], finding: str) -> None:
    assert change[0] in TEXT
    assert any(finding in line for line in findings(TEXT.replace(*change)))


def test_only_what_runs_goes_into_the_images() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    assert not [line for line in lines if line.startswith("!") and re.search(r"\.env|\.venv|\.tallyclerk|\.git", line)]
    kept = {line[1:].partition("*")[0] for line in lines if line.startswith("!")}
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE):
        for each in source.split():
            assert each == "." or any(each.startswith(name) for name in kept), f"{each} is left out of the context"
