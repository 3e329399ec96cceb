"""Dispatch: which file holds which command. A command's file is imported when the command is used.

Exit status: 0 all right, 1 the operation failed, 2 wrong use.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from fenbu.errors import FenbuError, UsageError

if TYPE_CHECKING:
    import click

COMMANDS = {
    "dev": "fenbu._cli.dev:dev",
    "run": "fenbu._cli.run:run",
    "call": "fenbu._cli.call:call",
    "start": "fenbu._cli.call:start",
    "ls": "fenbu._cli.ls:ls",
    "show": "fenbu._cli.show:show",
    "tail": "fenbu._cli.tail:tail",
    "explain": "fenbu._cli.explain:explain",
    "signal": "fenbu._cli.steer:signal",
    "query": "fenbu._cli.ask:query",
    "update": "fenbu._cli.ask:update",
    "complete": "fenbu._cli.steer:complete",
    "fail": "fenbu._cli.steer:fail",
    "cancel": "fenbu._cli.steer:cancel",
    "terminate": "fenbu._cli.steer:terminate",
    "retry": "fenbu._cli.steer:retry",
    "pause": "fenbu._cli.steer:pause",
    "resume": "fenbu._cli.steer:resume",
    "fork": "fenbu._cli.fork:fork",
    "bulk": "fenbu._cli.bulk:bulk",
    "export": "fenbu._cli.replay:export",
    "import": "fenbu._cli.import_:import_",
    "replay": "fenbu._cli.replay:replay",
    "check-deploy": "fenbu._cli.check_deploy:check_deploy",
    "rekey": "fenbu._cli.rekey:rekey",
    "entity": "fenbu._cli.entity:entity",
    "topic": "fenbu._cli.topic:topic",
    "batch": "fenbu._cli.batch:batch",
    "nodes": "fenbu._cli.nodes:nodes",
    "migrate": "fenbu._cli.migrate:migrate",
    "doctor": "fenbu._cli.doctor:doctor",
    "demo": "fenbu._cli.demo.command:demo",
}

EXAMPLE = """
\b
Examples:
  fenbu dev shop.py
  fenbu call checkout order-7 -a shop.py
  fenbu ls --status running
  fenbu explain ID
"""


def main() -> None:
    """The entry point of `fenbu`."""
    try:
        import click

        importlib.import_module("rich")
    except ImportError:
        print(
            'fenbu: the command line needs a few packages more: pip install "fenbu[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)
    group(click)(prog_name="fenbu")


def group(click: Any) -> click.Group:
    """The command group; commands are found by name when they are asked for."""

    class Commands(click.Group):
        def list_commands(self, ctx: Any) -> list[str]:
            del ctx
            return list(COMMANDS)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            del ctx
            place = COMMANDS.get(cmd_name)
            if place is None:
                return None
            module, _, name = place.partition(":")
            return getattr(importlib.import_module(module), name)

        def invoke(self, ctx: click.Context) -> Any:
            try:
                return super().invoke(ctx)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            except FenbuError as error:
                click.echo(f"fenbu: {error}", err=True)
                ctx.exit(2 if isinstance(error, UsageError) else 1)

    @click.group(
        cls=Commands, epilog=EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]}
    )
    @click.version_option(package_name="fenbu")
    def fenbu() -> None:
        """Durable calls for ordinary Python."""

    return fenbu
