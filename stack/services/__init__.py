"""The services: one module each; to add one, describe it there and name it here."""

from stack.service import Service
from stack.services import airflow, cassandra, connect, flink, hdfs, kafka, postgres, prometheus, registry, shop, spark

SERVICES: tuple[Service, ...] = (
    postgres.POSTGRES,
    hdfs.NAMENODE,
    hdfs.DATANODE,
    spark.MASTER,
    spark.WORKER,
    cassandra.CASSANDRA,
    kafka.KAFKA,
    registry.REGISTRY,
    connect.CONNECT,
    flink.JOBMANAGER,
    flink.TASKMANAGER,
    shop.SHOP,
    airflow.DATABASE,
    airflow.SETTINGS,
    airflow.API_SERVER,
    airflow.SCHEDULER,
    airflow.DAG_PROCESSOR,
    airflow.TRIGGERER,
    prometheus.PROMETHEUS,
)
