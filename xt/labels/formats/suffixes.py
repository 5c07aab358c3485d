"""By which endings a file is taken for a table, where it could be something else."""

PARQUET = (".parquet", ".pq")
TABLES = (".csv", ".tsv", ".txt", *PARQUET)
