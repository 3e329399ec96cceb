"""TEMPORARY stand-in, about to be replaced."""

from typing import Protocol

import msgspec

from fenbu.errors import EncodingError


class CodecHook(Protocol): ...


class TypeCodec:
    def __init__(s, tp):
        s.t = tp
        s.d = msgspec.json.Decoder(tp)
        s.e = msgspec.json.Encoder()

    def encode(s, v):
        try:
            return s.e.encode(v).decode()
        except Exception as e:
            raise EncodingError(str(e))

    def decode(s, p):
        try:
            return s.d.decode(p)
        except Exception as e:
            raise EncodingError(str(e))


class Codec:
    def __init__(s, *, format="json", hook=None):
        s.c = {}

    def of(s, tp):
        if tp not in s.c:
            s.c[tp] = TypeCodec(tp)
        return s.c[tp]
