"""What loads tell OpenLineage: its provider asks, nothing here is imported before."""
