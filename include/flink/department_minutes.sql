-- What each department sells per minute, to the cent: contracts/department_minutes.odcs.yaml.
--
-- Which sales count, and why the state's life is as long as it is: see customer_kpis.sql. Sales that come too late are left out here
-- without a word, because that job, which reads the same topic, sends each of them to the topic of late sales.
--
-- Every line that begins with two dashes is taken out before the script is submitted.
SET 'pipeline.name' = '@JOB_NAME@';
SET 'table.local-time-zone' = 'UTC';
SET 'state.backend.type' = '@STATE_BACKEND@';
SET 'table.exec.state.ttl' = '@STATE_DAYS@ d';

CREATE TABLE transactions (
  transaction_id STRING,
  product_id STRING,
  sales_value DECIMAL(12, 2),
  transaction_timestamp STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '@SOURCE_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'properties.group.id' = '@JOB_NAME@',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.fail-on-missing-field' = 'true'
);

-- The catalogue, sent whole every night, mostly with the values it had: read as what it is, messages one after the other.
CREATE TABLE products (
  product_id STRING,
  department STRING
) WITH (
  'connector' = 'kafka',
  'topic' = '@PRODUCTS_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'properties.group.id' = '@JOB_NAME@',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'avro-confluent',
  'avro-confluent.url' = '@REGISTRY@'
);

CREATE TABLE department_minutes (
  department STRING,
  `minute` STRING,
  total_amount STRING,
  transaction_count BIGINT,
  PRIMARY KEY (department, `minute`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '@MINUTES_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'key.format' = 'json',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'at-least-once',
  'sink.buffer-flush.max-rows' = '5000',
  'sink.buffer-flush.interval' = '1 s'
);

CREATE TEMPORARY VIEW sale AS
SELECT product_id, sales_value, transaction_timestamp
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY transaction_id ORDER BY PROCTIME() ASC) AS appearance
  FROM transactions
  WHERE sales_value > 0
)
WHERE appearance = 1
  AND CAST(SUBSTRING(transaction_timestamp, 1, 10) AS DATE)
      BETWEEN CURRENT_DATE - INTERVAL '@ACCEPTED_DAYS@' DAY AND CURRENT_DATE + INTERVAL '1' DAY;

-- Never forgotten (0 s), and so a message with the value that is known already ends here: the nightly catalogue moves no sum.
CREATE TEMPORARY VIEW product AS
SELECT /*+ STATE_TTL('products' = '0 s') */ product_id, LAST_VALUE(department) AS department
FROM products
GROUP BY product_id;

-- A sale waits a day for its product: until then it counts as UNKNOWN, and moves when the catalogue brings the product or another
-- department of it; a minute of UNKNOWN without sales left is deleted by a tombstone. What happens to products later does not move it.
CREATE TEMPORARY VIEW department_sale AS
SELECT /*+ STATE_TTL('sale' = '1 d', 'product' = '0 s') */
       COALESCE(product.department, 'UNKNOWN') AS department,
       SUBSTRING(sale.transaction_timestamp, 1, 16) || ':00Z' AS `minute`,
       CAST(sale.sales_value * 100 AS BIGINT) AS cents
FROM sale LEFT JOIN product ON sale.product_id = product.product_id;

INSERT INTO department_minutes
SELECT department, `minute`, CAST(CAST(SUM(cents) * 0.01 AS DECIMAL(18, 2)) AS STRING), COUNT(*)
FROM department_sale
GROUP BY department, `minute`;
