"""A chat agent: a model that asks for tools, tools that run in parallel, and a conversation that lasts.

Each question is a signal to the conversation's workflow, each answer of the model and each tool call a
step: recorded once, so a crash in the middle repeats none of those that were paid for.

    python examples/chat_agent.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from fenbu import App, Retry, step, wait_signal

app = App("agent")


@dataclass
class Message:
    role: str
    text: str


@dataclass
class Answer:
    text: str = ""
    tools: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


async def ask_model(messages: list[Message]) -> Answer:
    """A fake model: it wants the weather before it says what to wear."""
    question = next(each.text for each in reversed(messages) if each.role == "user")
    results = {each.text.split()[0]: each.text for each in messages if each.role == "tool"}
    cities = [word.strip("?,") for word in question.split()[1:] if word.istitle()]
    missing = [city for city in cities if city not in results]
    if missing:
        return Answer(tools=[("weather", city) for city in missing])
    return Answer("; ".join(results[city] for city in cities) + ". Dress for that.")


async def weather(city: str) -> str:
    return f"{city} has {len(city)} degrees"


TOOLS = {"weather": weather}


@app.workflow
async def conversation(turns: int) -> list[Message]:
    messages: list[Message] = []
    for _ in range(turns):
        messages.append(Message("user", await wait_signal("question", str)))
        while True:
            answer = await step.options(retry=Retry(attempts=3), timeout=60)(
                ask_model, list(messages)
            )
            if not answer.tools:
                break
            calls = (step(TOOLS[name], argument) for name, argument in answer.tools)
            messages += [Message("tool", each) for each in await asyncio.gather(*calls)]
        messages.append(Message("assistant", answer.text))
    return messages


async def main() -> None:
    async with app:
        chat = await conversation.start(2)
        await chat.signal("question", "What to wear in Oslo and Rome?")
    # The process may end here, and start again tomorrow: the conversation goes on.
    async with app:
        chat = conversation.handle(chat.id)
        await chat.signal("question", "And in Oslo or Kyoto?")
        for message in await chat.result():
            print(f"{message.role}: {message.text}")


if __name__ == "__main__":
    asyncio.run(main())
