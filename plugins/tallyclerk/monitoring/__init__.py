"""What the pipeline says of itself, in Prometheus' text."""
