"""Storage: one protocol, one folder per database. Knows nothing of asyncio tasks or user code."""
