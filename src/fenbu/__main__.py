"""`python -m fenbu` is the command line."""

from __future__ import annotations

from fenbu._cli.main import main

if __name__ == "__main__":
    main()
