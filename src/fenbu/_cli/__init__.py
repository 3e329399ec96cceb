"""The command line: `main` dispatches, one file for each command or family of commands."""
