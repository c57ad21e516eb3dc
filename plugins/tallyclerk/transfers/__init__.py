"""Operators that move data: each composes a source and a sink."""
