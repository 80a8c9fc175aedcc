"""The archive: what the topics held, as Parquet files by day, and how it is read again."""
