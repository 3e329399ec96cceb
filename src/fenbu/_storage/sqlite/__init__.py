"""SQLite: the embedded storage. One process owns all partitions; others may enqueue and read."""
