"""Codec hooks that come with fenbu: compression, and encryption with keys that can be changed."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from fenbu._core.codec import CodecHook
from fenbu.errors import UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

COMPRESSED: Final = b"\xc1z"
ENCRYPTED: Final = b"\xc1e"
"""0xC1 begins neither JSON nor MessagePack: what is stored says itself what was done to it."""

KEY_BYTES: Final = 32
_ID: Final = 4
_SALT: Final = 16
_NONCE: Final = 12
_HEAD: Final = len(ENCRYPTED) + _ID + _SALT
_SUBKEY_USES_MAX: Final = 2**30
"""Nonces are random: with more than 2³² of them under one key, two could be equal."""


class Compression:
    """Compresses payloads with zlib, where it pays: those beyond a size, and that become smaller.

    Args:
        beyond: Payloads of at most so many bytes stay as they are, readable in the database.
        level: 1 is quick, 9 is small.

    Raises:
        UsageError: A value makes no sense.

    Example:
        ```python
        app = App("shop", hook=Compression())
        ```
    """

    def __init__(self, *, beyond: int = 4096, level: int = 6) -> None:
        if beyond < 0 or not 1 <= level <= 9:
            raise UsageError(
                "Compression(beyond=…, level=…): bytes from 0 on, and a level from 1 to 9"
            )
        self._beyond = beyond
        self._level = level

    def encode(self, data: bytes) -> bytes:
        """What to store for `data`."""
        if len(data) <= self._beyond:
            return data
        made = COMPRESSED + zlib.compress(data, self._level)
        return made if len(made) < len(data) else data

    def decode(self, data: bytes) -> bytes:
        """What `encode` was given; also of payloads that were stored without it."""
        return zlib.decompress(data[len(COMPRESSED) :]) if data.startswith(COMPRESSED) else data


class Encryption:
    """Encrypts payloads with AES-256-GCM. Needs `pip install "fenbu[encryption]"`.

    The database then holds no argument, result, state, signal, update, value of a stream, heartbeat or text
    of an error that it could read. Ids, keys of entities, names of handlers, steps, signals and streams,
    types of errors, instants, attributes and what middleware gives calls as their context stay readable.
    Each payload says which key it is under. Payloads that were stored before stay readable.

    Args:
        keys: The first encrypts, each of them decrypts: 32 bytes, or what `new_key` made.
        context: Is authenticated with each payload, so that another service with the same key cannot read it
            and its payloads are not taken for this one's.

    Raises:
        UsageError: There is no key, or one is none; or the package `cryptography` is not installed.

    Example:
        ```python
        app = App("shop", hook=[Compression(), Encryption(keys=os.environ["SHOP_KEYS"].split())])
        ```
    """

    def __init__(self, keys: Sequence[bytes | str], *, context: str = "") -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
        except ImportError:
            raise UsageError(
                'Encryption needs one package more: pip install "fenbu[encryption]"'
            ) from None
        if isinstance(keys, str | bytes) or not keys:
            raise UsageError("Encryption(keys=[…]) needs a list of at least one key")
        found = [_key(each) for each in keys]
        self._keys = {_id(each): each for each in found}
        self._first = _id(found[0])
        self._context = context.encode()
        self._left = 0
        self._make: type[Any] = AESGCM
        self._subkey = lru_cache(maxsize=1024)(self._cipher)
        self._now: tuple[bytes, AESGCM] | None = None

    @staticmethod
    def new_key() -> str:
        """A random key, as text for a secret store."""
        return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()

    @property
    def key_ids(self) -> list[str]:
        """The ids by which payloads name their keys, the one that encrypts first."""
        return [each.hex() for each in self._keys]

    def is_current(self, data: bytes) -> bool:
        """Whether stored data is under the first key."""
        return data[: len(ENCRYPTED) + _ID] == ENCRYPTED + self._first

    def encode(self, data: bytes) -> bytes:
        """What to store for `data`: mark, key id, salt, nonce, ciphertext with its tag."""
        if self._left <= 0 or self._now is None:
            # A key of its own for each process, and each so many payloads.
            head = ENCRYPTED + self._first + os.urandom(_SALT)
            self._now = (head, self._cipher(head))
            self._left = _SUBKEY_USES_MAX
        self._left -= 1
        head, cipher = self._now
        nonce = os.urandom(_NONCE)
        return head + nonce + cipher.encrypt(nonce, data, head + self._context)

    def decode(self, data: bytes) -> bytes:
        """What `encode` was given; also of payloads that were stored without it.

        Raises:
            UsageError: None of the keys is the one that it is under, or it was changed.
        """
        if not data.startswith(ENCRYPTED):
            return data
        head, nonce = data[:_HEAD], data[_HEAD : _HEAD + _NONCE]
        key = head[len(ENCRYPTED) : len(ENCRYPTED) + _ID]
        if key not in self._keys:
            raise UsageError(
                f"it is encrypted with key {key.hex()}, and this app has {', '.join(self.key_ids)}: give "
                "Encryption that key as well, in second place"
            )
        try:
            return self._subkey(head).decrypt(nonce, data[_HEAD + _NONCE :], head + self._context)
        except Exception as error:
            raise UsageError(
                f"it is encrypted with key {key.hex()}, but was changed since, or has another context"
            ) from error

    def _cipher(self, head: bytes) -> AESGCM:
        key = self._keys[head[len(ENCRYPTED) : len(ENCRYPTED) + _ID]]
        salt = head[len(ENCRYPTED) + _ID :]
        return self._make(hmac.digest(key, b"fenbu payload " + salt, "sha256"))


def _key(key: bytes | str) -> bytes:
    data = key
    if isinstance(data, str):
        try:
            data = base64.urlsafe_b64decode(data)
        except (binascii.Error, ValueError):
            data = b""
    if len(data) != KEY_BYTES:
        raise UsageError(
            f"a key has {KEY_BYTES} bytes, or is text that Encryption.new_key() has made: one of these is "
            "neither"
        )
    return data


def _id(key: bytes) -> bytes:
    return hmac.digest(key, b"fenbu key id", "sha256")[:_ID]


class _Chain:
    """Several hooks, the first nearest to the value."""

    def __init__(self, hooks: Sequence[CodecHook]) -> None:
        self.hooks = tuple(hooks)

    def encode(self, data: bytes) -> bytes:
        for each in self.hooks:
            data = each.encode(data)
        return data

    def decode(self, data: bytes) -> bytes:
        for each in reversed(self.hooks):
            data = each.decode(data)
        return data


def one_hook(hook: CodecHook | Sequence[CodecHook] | None) -> CodecHook | None:
    """What an app was given as its hook, as one.

    Raises:
        UsageError: What is encrypted would be compressed after it, which makes nothing smaller.
    """
    if not isinstance(hook, Sequence):
        return hook
    seen = False
    for each in hook:
        if seen and isinstance(each, Compression):
            raise UsageError(
                "hook=[Compression(), Encryption(…)]: compression comes before encryption"
            )
        seen = seen or isinstance(each, Encryption)
    return hook[0] if len(hook) == 1 else _Chain(hook) if hook else None


def encryption_of(hook: CodecHook | None) -> Encryption | None:
    """The encryption in a hook, if there is any."""
    hooks = hook.hooks if isinstance(hook, _Chain) else (hook,)
    return next((each for each in hooks if isinstance(each, Encryption)), None)
