"""What users read: one answer out of two layers."""
