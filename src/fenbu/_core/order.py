"""Messages of one sender to one receiver keep their order, although two ways lead there.

Within a node a message is applied in its sender's batch; otherwise it goes through the inbox. While one for
the same receiver is on that way, all that follow must take it too.
Guarantee: message-once-in-order.
"""

from __future__ import annotations

from fenbu._core.message import Call, Deadlock, Message, Probe, Reply

Receiver = str | tuple[str, str]
"""An id, or the name and key of an entity."""


def receiver_of(message: Message) -> Receiver:
    """Whose messages must keep their order."""
    match message:
        case Call():
            call = message.invocation
            return call.id if call.key is None else (call.entity or "", call.key)
        case Reply():
            return message.to.id
        case Probe() | Deadlock():
            return ""
        case _:
            return message.id


class MessageOrder:
    """Of the messages to one partition of this node."""

    def __init__(self, to_come: dict[Receiver, int] | None) -> None:
        self._via_inbox: dict[Receiver, int] = {} if to_come is None else to_come
        """Who has messages in the inbox that are not read yet, and the batch of the last of them."""
        self.is_behind = to_come is not None
        """What was in the inbox when the partition was taken is still being read."""

    def needs_inbox(self, message: Message) -> bool:
        """Whether it would overtake another on the short way."""
        if self.is_behind:
            return True
        return bool(self._via_inbox) and receiver_of(message) in self._via_inbox

    def sent(self, message: Message, batch: int) -> None:
        """It goes through the inbox, with this batch."""
        self._via_inbox[receiver_of(message)] = batch

    def read(self, batch: int) -> None:
        """Everything that batches up to this one put into the inbox has been received."""
        for receiver in [each for each, last in self._via_inbox.items() if last <= batch]:
            del self._via_inbox[receiver]

    def expects(self, id_: str) -> bool:
        """Messages to this call are on their way through the inbox."""
        return id_ in self._via_inbox
