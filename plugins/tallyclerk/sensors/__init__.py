"""Sensors: wait until a service is as it should be."""
