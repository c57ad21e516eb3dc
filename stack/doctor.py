"""What a machine lacks."""
def report(settings): return 0
