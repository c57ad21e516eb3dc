"""Operators that move no rows themselves: they run jobs, read receipts and compare totals."""
