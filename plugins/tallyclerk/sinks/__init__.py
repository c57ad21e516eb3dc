"""Where loads write: stage, commit with the cursor, sign a receipt."""
