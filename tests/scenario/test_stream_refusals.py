"""What cannot be written to a stream: a value of another type, or anything once it is closed."""

from __future__ import annotations

from typing import Any

import pytest

from fenbu import App, EncodingError, Entity, UsageError, step, stream

pytestmark = pytest.mark.timeout(60)


async def test_an_operation_cannot_write_to_what_it_has_closed(app: App) -> None:
    @app.entity
    class Log(Entity):
        count: int = 0

        async def add(self) -> bool:
            out = stream("n", int)
            await out.write(1)
            await out.close()
            self.count += 1
            with pytest.raises(
                UsageError, match=r"the stream 'n' of Log\.add .* is closed already"
            ):
                await out.write(2)
            await stream("other", int).write(3)
            return True

    async with app:
        for _ in range(2):
            handle = await Log("l").add.start()
            assert await handle.result() is True
            assert await read_as(handle, int) == [1]
            assert await read_as(handle, int, "other") == [3]


async def test_a_value_of_another_type_is_refused_where_it_is_written(app: App) -> None:
    async def inside() -> None:
        with pytest.raises(
            EncodingError, match=r"^stream 'n' of .*inside: Expected `int`, got `str`"
        ):
            await stream("n", int).write("text")  # pyright: ignore[reportArgumentType]

    @app.workflow
    async def work() -> None:
        with pytest.raises(
            EncodingError, match=r"^stream 'n' of .*work: Expected `int`, got `str`"
        ):
            await stream("n", int).write("text")  # pyright: ignore[reportArgumentType]
        await step(inside)
        await stream("n", int).write(1)

    async with app:
        handle = await work.start()
        await handle.result()
        (chunk,) = [each async for each in handle.stream("n", int).chunks()]
        assert chunk.value == 1
        where = rf"stream 'n' of {handle.id}, offset {chunk.offset}: Expected `str`, got `int`"
        with pytest.raises(EncodingError, match=where):
            await read_as(handle, str)


async def read_as(handle: Any, type_: Any, name: str = "n") -> list[Any]:
    return [each async for each in handle.stream(name, type_)]
