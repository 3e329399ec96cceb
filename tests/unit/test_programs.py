"""The predictor of random programs: by hand, for one program of each kind of command."""

from __future__ import annotations

from random import Random

import msgspec

from tests.simulation import program
from tests.simulation.program import Add, Call, Cell, Prediction, Programs, Put, Reject


def test_what_a_program_does_is_predicted() -> None:
    prediction = Prediction()
    assert prediction.run(
        "a",
        [
            Add(1),
            Put("x", 5), program.AddWritten("x"), program.Erase("x"), program.AddWritten("x"),
            Put("y", 2),
            Call("b", [Add(3)]),
            Call("b", [Add(100), program.Send("c", [Add(4)], 0.0), Reject()]),
            program.Told("c", [1, 2]),
            program.Ask("c", 3, False), program.Ask("c", 3, True),
            program.Undo("c", 7),
            program.Stop("c", 20),
        ],
    )  # fmt: skip
    assert prediction.cells() == {
        "a": Cell(1 + 5 + 1 + 1000 + 7, {"y": 2}),
        "b": Cell(3),
        "c": Cell(4 + 3 + 3 + 30 + 1 + 20),
    }


def test_all_commands_are_drawn_and_come_back_from_json() -> None:
    drawn = Programs(Random(1), "", 1000)
    programs = [drawn.draw() for _ in range(500)]
    text = msgspec.json.encode(programs)
    assert msgspec.json.decode(text, type=list[list[program.Command]]) == programs
    kinds = {each for each in vars(program) if f'"type":"{each}"'.encode() in text}
    structs = {name for name, each in vars(program).items() if isinstance(each, type)}
    assert structs - kinds == {"Cell", "Counter", "Prediction", "Programs", "Random", "Struct"}
    depth = max(msgspec.json.encode(each).count(b'"program"') for each in programs)
    assert depth > 3
