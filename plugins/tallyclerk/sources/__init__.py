"""What reads one window of one data set and spools it, counted, to local Parquet."""
