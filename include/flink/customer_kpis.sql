-- What each customer has bought so far, per day and to the cent: the speed layer's half of contracts/customer_kpis_speed.odcs.yaml.
--
-- Sales above zero count, as in the batch layer, each transaction_id once, under the UTC day of their own time. A sale counts while its
-- day is at most @ACCEPTED_DAYS@ days before today, by this machine's clock (and at most one day ahead of it, for a shop whose clock is).
-- One that comes later goes to the topic @LATE_TOPIC@, once, and is the batch layer's; one whose id was seen before goes nowhere.
--
-- @KAFKA_SECURITY@ is what the connection to Kafka says of TLS and login, nothing on a machine without; passwords are in no script.
-- Every line that begins with two dashes is taken out before the script is submitted.
SET 'pipeline.name' = '@JOB_NAME@';
-- CURRENT_DATE is the UTC day's, wherever the cluster stands
SET 'table.local-time-zone' = 'UTC';

-- rocksdb: state as large as the disk. hashmap: on the heap of the TaskManager, about 300 bytes a sale; see docs/adr/0007
SET 'state.backend.type' = '@STATE_BACKEND@';

-- What is not touched for so many days, by the clock, is forgotten: ids of sales, and sums. Always at least 3 more than ACCEPTED_DAYS.
-- A key's first sale comes at most a day before its day begins, its last at most ACCEPTED_DAYS after its day ends: no sum that can
-- still grow is ever forgotten, so none begins again at zero and overwrites a right value; and no id that would be accepted again.
SET 'table.exec.state.ttl' = '@STATE_DAYS@ d';

-- The two INSERTs share everything up to the view `sale`. Without this line each has a deduplication of its own, at twice the cost.
SET 'table.optimizer.reuse-optimize-block-with-digest-enabled' = 'true';

-- Live sales, as RestToKafkaOperator writes them: only what is needed is decoded. A message without one of these members ends the job,
-- for it is not from that writer.
-- Times stay text ("2026-11-24T09:30:00.000000Z", always UTC), of which only the day is read: to parse them adds 40 % to the cost of
-- reading. No watermark either: days are sums that go on, not windows, so nothing waits for event time, for an idle partition or for order.
CREATE TABLE transactions (
  transaction_id STRING,
  household_id STRING,
  sales_value DECIMAL(12, 2),
  transaction_timestamp STRING,
  source_partition INT METADATA FROM 'partition' VIRTUAL,
  source_offset BIGINT METADATA FROM 'offset' VIRTUAL
) WITH (
  'connector' = 'kafka',
  'topic' = '@SOURCE_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'properties.group.id' = '@JOB_NAME@',
  'properties.isolation.level' = 'read_committed',
  -- for a job without state; one with state goes on at its own offsets, and the group's are only shown
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json',
  'json.fail-on-missing-field' = 'true'
);

-- A compacted topic: the last value of a key is right, whatever was sent before it. Sending some of them twice after a restart is
-- harmless, so at-least-once is enough, and readers see a value within the flush interval instead of at the next checkpoint.
-- Decimals are text, as in all our JSON messages.
CREATE TABLE customer_kpis_speed (
  customer_id STRING,
  `date` DATE,
  total_amount STRING,
  transaction_count BIGINT,
  avg_transaction_value STRING,
  PRIMARY KEY (customer_id, `date`) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka',
  'topic' = '@KPI_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'key.format' = 'json',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'at-least-once',
  'sink.buffer-flush.max-rows' = '5000',
  'sink.buffer-flush.interval' = '1 s'
);

-- Each late sale once (as long as its id is known), in Kafka transactions that end with the checkpoints: read it read_committed. The
-- source's partition and offset say where the whole message is. The transactions' time-out is longer than an outage may last, and within
-- the broker's limit.
CREATE TABLE late_sales (
  transaction_id STRING,
  household_id STRING,
  sales_value STRING,
  transaction_timestamp STRING,
  source_partition INT,
  source_offset BIGINT
) WITH (
  'connector' = 'kafka',
  'topic' = '@LATE_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  @KAFKA_SECURITY@
  'key.format' = 'raw',
  'key.fields' = 'transaction_id',
  'value.format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = '@JOB_NAME@',
  'properties.transaction.timeout.ms' = '600000'
);

-- The first message of each id, late or not: a sale that was counted is not late when it comes again.
CREATE TEMPORARY VIEW sale AS
SELECT transaction_id, household_id, sales_value, transaction_timestamp, source_partition, source_offset,
       CAST(SUBSTRING(transaction_timestamp, 1, 10) AS DATE) AS sale_date
FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY transaction_id ORDER BY PROCTIME() ASC) AS appearance
  FROM transactions
  WHERE sales_value > 0
)
WHERE appearance = 1;

EXECUTE STATEMENT SET BEGIN

-- In whole cents, so that the average is rounded half up once: floor(total / sales + 1/2) in whole numbers.
INSERT INTO customer_kpis_speed
SELECT household_id,
       sale_date,
       CAST(CAST(cents * 0.01 AS DECIMAL(18, 2)) AS STRING),
       sales,
       CAST(CAST((2 * cents + sales) / (2 * sales) * 0.01 AS DECIMAL(18, 2)) AS STRING)
FROM (
  SELECT household_id, sale_date, SUM(CAST(sales_value * 100 AS BIGINT)) AS cents, COUNT(*) AS sales
  FROM sale
  WHERE sale_date BETWEEN CURRENT_DATE - INTERVAL '@ACCEPTED_DAYS@' DAY AND CURRENT_DATE + INTERVAL '1' DAY
  GROUP BY household_id, sale_date
);

INSERT INTO late_sales
SELECT transaction_id, household_id, CAST(sales_value AS STRING), transaction_timestamp, source_partition, source_offset
FROM sale
WHERE (sale_date BETWEEN CURRENT_DATE - INTERVAL '@ACCEPTED_DAYS@' DAY AND CURRENT_DATE + INTERVAL '1' DAY) IS NOT TRUE;

END;
