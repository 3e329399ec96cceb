"""RetryLater at its end, and where it does not belong."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from fenbu import App, Entity, Retry, RetryLater, UsageError, on_update, step, wait_signal
from fenbu.testing import run

POLICY = Retry(attempts=None, total_seconds=50)


class NotThere(RetryLater):
    """One of a user's own."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not there", after=20)
        self.what = what


def test_its_outcome_says_that_the_time_is_over() -> None:
    app = App("scenario", url="memory:")

    @app.task(retry=POLICY)
    async def task() -> None:
        raise RetryLater("not there yet", after=20)

    async def body() -> None:
        raise NotThere("the report")

    @app.workflow
    async def caught() -> str:
        try:
            await step.options(retry=POLICY)(body)
        except NotThere as error:
            return f"{error.what} {error.is_over}"
        return "none"

    @app.workflow
    async def steps() -> None:
        await step.options(retry=POLICY)(body)

    async def scenario() -> None:
        text = (
            r"^not there yet: it asked to run again in 20 seconds, and that is later than 50 seconds after "
            r"its first attempt \(total_seconds\)"
        )
        with pytest.raises(RetryLater, match=text) as found:
            await task()
        assert found.value.is_over
        assert found.value.after == 20
        assert pickle.loads(pickle.dumps(found.value)).is_over
        assert await caught() == "the report True"
        # What a workflow lets out is the step's, and it is no mistake of the workflow.
        with pytest.raises(NotThere, match="the report is not there: it asked") as own:
            await steps()
        assert own.value.is_over

    run(app, scenario)


async def test_code_cannot_raise_it(app: App) -> None:
    @app.workflow
    async def flow() -> None:
        raise RetryLater(after=5)

    @app.entity
    class Cart(Entity):
        async def add(self) -> None:
            raise RetryLater(after=5)

    @app.workflow
    async def asked() -> None:
        @on_update
        def now() -> None:
            raise RetryLater(after=5)

        await wait_signal("end")

    async with app:
        for call, who in (
            (flow(), r"flow"),
            (Cart("1").add(), r"Cart\.add"),
            (asked.options(id="a").and_update("now")(), "update now"),
        ):
            with pytest.raises(UsageError, match=who + r" raised RetryLater, which only a task or"):
                await call


@pytest.mark.parametrize("after", ["x", None, True, -1, float("nan"), float("inf")])
def test_after_is_a_number_of_seconds(after: Any) -> None:
    with pytest.raises(UsageError, match=r"RetryLater\(after=.* must be seconds"):
        RetryLater(after=after)
