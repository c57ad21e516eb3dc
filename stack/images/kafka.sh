#!/usr/bin/env bash
# kafka.sh PROPERTIES DATA: the broker of Kafka's own image, with our configuration; its log folder is formatted at the first start.
set -euo pipefail
properties=$1 data=$2
bin=${KAFKA_BIN:-/opt/kafka/bin}
if [[ ! -f $data/meta.properties ]]; then
  # no id may begin with a minus: it would be taken for an option
  until [[ ${id:--} != -* ]]; do id=$("$bin/kafka-storage.sh" random-uuid); done
  "$bin/kafka-storage.sh" format --standalone --cluster-id "$id" --config "$properties"
fi
# of the broker alone: in the container's own environment Kafka's tools would start its agent too, on the port that is taken
export KAFKA_OPTS=${BROKER_OPTS:-}
exec "$bin/kafka-server-start.sh" "$properties"
