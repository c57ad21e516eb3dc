"""What the pipeline works on: contracts, statements, connector configs and the demo's shop."""
