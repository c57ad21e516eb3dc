"""What a deferred task waits for. No driver is imported here: all triggers of a machine share one process."""
