"""fenbu together with other packages, by its public API only. Each module needs an extra of its own."""
