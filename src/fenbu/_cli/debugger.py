"""Python's own debugger, at a position of a call's journal: it stops where the user's code goes on there."""

from __future__ import annotations

import pdb  # noqa: T100 - it is what --pdb is for
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any

_OURS = (str(Path(__file__).parent.parent) + "/", "<")
_PYTHONS = sysconfig.get_path("stdlib") + "/"
_INSTALLED = (sysconfig.get_path("purelib") + "/", sysconfig.get_path("platlib") + "/")


class Debugger(pdb.Pdb):
    """See the module."""

    def __init__(self, position: int) -> None:
        super().__init__(nosigint=True)
        self.prompt = f"(fenbu, position {position}) "
        self._position = position
        self.has_stopped = False

    def before(self, position: int) -> None:
        """The code comes to this position next."""
        if position == self._position:
            self.has_stopped = True
            self.reset()
            self.set_step()
            sys.settrace(self.trace_dispatch)

    def stop_here(self, frame: FrameType) -> bool:
        """Not in the code of fenbu or of Python itself."""
        file = frame.f_code.co_filename
        if file.startswith(_OURS) or (
            file.startswith(_PYTHONS) and not file.startswith(_INSTALLED)
        ):
            return False
        return super().stop_here(frame)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        """The code is dropped when its journal has come to its end: that is not its own doing."""
        if exc_info[0] is GeneratorExit:
            self.set_continue()
        else:
            super().user_exception(frame, exc_info)

    def done(self) -> None:
        """Nothing is left to step through."""
        sys.settrace(None)
