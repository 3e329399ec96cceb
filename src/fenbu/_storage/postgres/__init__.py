"""PostgreSQL: many nodes on one database."""
