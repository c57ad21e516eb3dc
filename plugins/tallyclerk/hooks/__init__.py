"""Connections and clients, nothing else."""
