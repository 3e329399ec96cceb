"""Whether a value of one type can be one of another when it is stored, as far as their outer forms tell.

For wrong annotations to be found when a handler is registered. What forms do not tell, values do: they are
checked anyway.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import inspect

NULL: Final = frozenset({"null"})
BOOL: Final = frozenset({"bool"})
NUMBER: Final = frozenset({"number"})
TEXT: Final = frozenset({"text"})
ARRAY: Final = frozenset({"array"})
OBJECT: Final = frozenset({"object"})
ANY: Final = NULL | BOOL | NUMBER | TEXT | ARRAY | OBJECT

_FORMS: Final[dict[type[Any], frozenset[str]]] = {
    inspect.NoneType: NULL,
    inspect.BoolType: BOOL,
    inspect.IntType: NUMBER,
    inspect.FloatType: NUMBER,
    inspect.DecimalType: NUMBER | TEXT,
    inspect.TimeDeltaType: NUMBER | TEXT,
    inspect.StrType: TEXT,
    inspect.BytesType: TEXT,
    inspect.ByteArrayType: TEXT,
    inspect.DateTimeType: TEXT | NUMBER,
    inspect.DateType: TEXT,
    inspect.TimeType: TEXT,
    inspect.UUIDType: TEXT,
    inspect.ListType: ARRAY,
    inspect.SetType: ARRAY,
    inspect.FrozenSetType: ARRAY,
    inspect.TupleType: ARRAY,
    inspect.VarTupleType: ARRAY,
    inspect.NamedTupleType: ARRAY,
    inspect.DictType: OBJECT,
    inspect.TypedDictType: OBJECT,
    inspect.DataclassType: OBJECT,
}


def may_fit(given: Any, wanted: Any) -> bool:
    """Whether a stored value of the one type may be read as the other."""
    return not _forms(given).isdisjoint(_forms(wanted))


def _forms(type_: Any) -> frozenset[str]:
    try:
        return _forms_of(inspect.type_info(type_))
    except Exception:  # noqa: BLE001 - annotations are code, and may raise anything
        return ANY


def _forms_of(type_: inspect.Type) -> frozenset[str]:
    if isinstance(type_, inspect.UnionType):
        return frozenset[str]().union(*map(_forms_of, type_.types))
    if isinstance(type_, inspect.Metadata):
        return _forms_of(type_.type)
    if isinstance(type_, inspect.StructType):
        return ARRAY if type_.array_like else OBJECT
    return _FORMS.get(type(type_), ANY)
