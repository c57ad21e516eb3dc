"""URIs of receipts in OpenLineage's words."""

from __future__ import annotations

import pytest
from openlineage.client.naming import dataset as naming

from tallyclerk.lineage.naming import DatasetName, dataset_name


@pytest.mark.parametrize(
    ("uri", "by_the_client"),
    [
        ("hdfs://namenode:8020/data/raw/sales/", naming.HDFS("namenode", "8020", "/data/raw/sales")),
        ("file:///landing/a%20day.csv", naming.LocalFileSystem("/landing/a day.csv")),
        ("/landing/day.csv", naming.LocalFileSystem("/landing/day.csv")),
        ("file://nas/landing/day.csv", naming.RemoteFileSystem("nas", "/landing/day.csv")),
        ("kafka://one:9092,two:9093/sales", naming.Kafka("one", "9092", "sales")),
        ("postgresql://db:5432/shop/public/sales", naming.Postgres("db", "5432", "shop", "public", "sales")),
        ("postgresql://db:5432/shop/public/sales%2Fold", naming.Postgres("db", "5432", "shop", "public", "sales/old")),
        ("cassandra://one,two:9042/shop/kpis", naming.Cassandra("one", "9042", "shop", "kpis")),
    ],
)
def test_a_name_is_that_of_openlineages_own_client_when_the_system_is_known(
    uri: str, by_the_client: naming.DatasetNaming
) -> None:
    assert dataset_name(uri) == DatasetName(by_the_client.get_namespace(), by_the_client.get_name())


def test_neither_login_nor_parameters_are_told_when_an_address_has_them() -> None:
    found = dataset_name("https://clerk:secret@shop:8443/v1/products?key=secret#secret")
    assert found == DatasetName("https://shop:8443", "/v1/products")
    assert "secret" not in str(dataset_name("postgresql://clerk:secret@db:5432/shop/public/sales"))


def test_a_query_has_no_name_when_it_was_read_instead_of_a_table() -> None:
    assert dataset_name("postgresql://db:5432/shop/query") is None
