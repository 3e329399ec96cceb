"""What users import; `fenbu/__init__.py` re-exports it."""
