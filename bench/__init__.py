"""What the loads cost, side by side with the usual ways."""
