"""The app of `takeover.py`, for its nodes and its clients."""

from fenbu import App, Entity

app = App("counters")


@app.entity
class Counter(Entity):
    count: int = 0

    async def increment(self) -> int:
        self.count += 1
        return self.count
