"""fenbu: the distributed layer of an internet business. Durable calls for ordinary Python functions."""

from __future__ import annotations

from fenbu._api.answer import UpdateHandler, on_query, on_update, updates_running
from fenbu._api.app import App, Client
from fenbu._api.ask import SyncUpdateHandle, UpdateHandle
from fenbu._api.batch import BatchError, BatchProgress
from fenbu._api.bound import Bound
from fenbu._api.callback import Callback, CallbackInfo, callback
from fenbu._api.context import (
    current_attempt,
    current_context,
    current_id,
    heartbeat,
    journal_length,
    now,
    patched,
    random,
    rng,
    uuid4,
)
from fenbu._api.entity import Entity, Operation, operation
from fenbu._api.function import DurableFunction, SyncFunction
from fenbu._api.handle import Handle, SyncHandle
from fenbu._api.hook import Compression, Encryption
from fenbu._api.lazy import Lazy
from fenbu._api.listing import CallInfo, CallPage, Where, set_attributes
from fenbu._api.mapping import Results, SyncResults
from fenbu._api.saga import saga
from fenbu._api.signal import wait_signal, wait_until
from fenbu._api.state import EntityInfo, EntityPage, EntityWatcher, SyncEntityWatcher
from fenbu._api.step import Step, TxStep, step, tx_step
from fenbu._api.stream import (
    Chunk,
    Stream,
    StreamReader,
    SyncStream,
    SyncStreamReader,
    stream,
)
from fenbu._api.together import SyncWithSignal, SyncWithUpdate, WithSignal, WithUpdate
from fenbu._api.topic import Event, SyncTopic, Topic
from fenbu._api.topic_group import ConsumerGroup, GroupPosition
from fenbu._core.attribute import AttributeValue
from fenbu._core.codec import CodecHook
from fenbu._core.middleware import Middleware, Running, Starting
from fenbu._core.model import Status
from fenbu._core.need import INJECTED, Resource
from fenbu._core.retry import Retry
from fenbu._node.attempt import Attempt
from fenbu.errors import (
    AlreadyExists,
    CallCancelled,
    CallEnded,
    CallError,
    CallFailed,
    CallNotFound,
    CallTimedOut,
    DeadlockError,
    EncodingError,
    FenbuError,
    HistoryTooLong,
    NonDeterminismError,
    OwnershipLost,
    PayloadTooLarge,
    PayloadUnreadable,
    RetryLater,
    SoftTimeout,
    StorageError,
    TerminalError,
    Unavailable,
    UsageError,
)

__all__ = [
    "INJECTED",
    "AlreadyExists",
    "App",
    "Attempt",
    "AttributeValue",
    "BatchError",
    "BatchProgress",
    "Bound",
    "CallCancelled",
    "CallEnded",
    "CallError",
    "CallFailed",
    "CallInfo",
    "CallNotFound",
    "CallPage",
    "CallTimedOut",
    "Callback",
    "CallbackInfo",
    "Chunk",
    "Client",
    "CodecHook",
    "Compression",
    "ConsumerGroup",
    "DeadlockError",
    "DurableFunction",
    "EncodingError",
    "Encryption",
    "Entity",
    "EntityInfo",
    "EntityPage",
    "EntityWatcher",
    "Event",
    "FenbuError",
    "GroupPosition",
    "Handle",
    "HistoryTooLong",
    "Lazy",
    "Middleware",
    "NonDeterminismError",
    "Operation",
    "OwnershipLost",
    "PayloadTooLarge",
    "PayloadUnreadable",
    "Resource",
    "Results",
    "Retry",
    "RetryLater",
    "Running",
    "SoftTimeout",
    "Starting",
    "Status",
    "Step",
    "StorageError",
    "Stream",
    "StreamReader",
    "SyncEntityWatcher",
    "SyncFunction",
    "SyncHandle",
    "SyncResults",
    "SyncStream",
    "SyncStreamReader",
    "SyncTopic",
    "SyncUpdateHandle",
    "SyncWithSignal",
    "SyncWithUpdate",
    "TerminalError",
    "Topic",
    "TxStep",
    "Unavailable",
    "UpdateHandle",
    "UpdateHandler",
    "UsageError",
    "Where",
    "WithSignal",
    "WithUpdate",
    "callback",
    "current_attempt",
    "current_context",
    "current_id",
    "heartbeat",
    "journal_length",
    "now",
    "on_query",
    "on_update",
    "operation",
    "patched",
    "random",
    "rng",
    "saga",
    "set_attributes",
    "step",
    "stream",
    "tx_step",
    "updates_running",
    "uuid4",
    "wait_signal",
    "wait_until",
]
