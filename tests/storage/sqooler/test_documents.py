from __future__ import annotations

import datetime
import json
import typing
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from spooler.signing.sqooler_form import sign_payload
from spooler.storage.sqooler.client import documents as ours
from tests.storage.sqooler.upstream import schemes, security

pytestmark = pytest.mark.interop

SHARED = [
    "LocalLoginInformation",
    "MongodbLoginInformation",
    "StatusMsgDict",
    "NextJobSchema",
    "BackendStatusSchemaOut",
    "BackendConfigSchemaIn",
    "BackendConfigSchemaOut",
    "GateDict",
    "ExperimentalInputDict",
    "DataDict",
    "ExperimentDict",
    "ResultDict",
    "LabscriptParams",
]
text = st.text(max_size=6)
names = st.from_regex(r"[a-z0-9]*", fullmatch=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(datetime.UTC))


_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: text,
    int: st.integers(-(10**9), 10**9),
    float: finite,
    bool: st.booleans(),
    datetime.datetime: moments,
    dict: st.dictionaries(text, text | finite, max_size=2),
    list: st.lists(text | finite, max_size=2),
}
_BY_NAME = {
    "display_name": names,
    "backend_name": st.from_regex(r"[a-z0-9]+_[a-z0-9]+_[a-z0-9]+", fullmatch=True),
}


def _values(annotation: Any, field: str) -> st.SearchStrategy[Any]:
    """JSON values for a field, as clients write them."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    found: st.SearchStrategy[Any]
    if origin is Literal:
        found = st.sampled_from(args)
    elif origin is list:
        found = st.lists(_values(args[0], field), max_size=3)
    elif type(None) in args:
        found = st.none() | _values(args[0], field)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found = inputs(annotation)
    else:
        found = _BY_NAME[field] if field in _BY_NAME else _SIMPLE[annotation]
    return found


def inputs(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Random input for a model, sometimes without the fields that have a default."""
    required = {}
    optional = {}
    for name, field in model.model_fields.items():
        kind = required if field.is_required() else optional
        kind[name] = _values(field.annotation, name)
    return st.fixed_dictionaries(required, optional=optional)


@pytest.mark.parametrize("name", SHARED)
def test_fields_and_their_order_are_sqoolers(name: str) -> None:
    our, their = getattr(ours, name), getattr(schemes, name)
    assert list(our.model_fields) == list(their.model_fields)
    for field, info in their.model_fields.items():
        assert our.model_fields[field].is_required() == info.is_required(), field
        if not info.is_required():
            default = our.model_fields[field].get_default(call_default_factory=True)
            assert default == info.get_default(call_default_factory=True), field


@pytest.mark.parametrize("name", SHARED)
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)
@given(data=st.data())
def test_the_same_bytes_for_the_same_input(name: str, data: st.DataObject) -> None:
    our, their = getattr(ours, name), getattr(schemes, name)
    given_input = data.draw(inputs(their))
    made, expected = our(**given_input), their(**given_input)
    assert made.model_dump_json() == expected.model_dump_json()
    assert json.dumps(made.model_dump(), default=str) == json.dumps(
        expected.model_dump(), default=str
    )


@pytest.mark.parametrize(
    "name", ["StatusStr", "ColdAtomStr", "WireOrderStr", "AttributePathStr", "AttributeIdStr"]
)
def test_the_words_are_sqoolers(name: str) -> None:
    theirs = getattr(schemes, name)
    if typing.get_origin(theirs) is Annotated:
        theirs = typing.get_args(theirs)[0]
    assert typing.get_args(getattr(ours, name)) == typing.get_args(theirs)


def test_what_is_filled_in_later() -> None:
    assert ours.get_init_status().model_dump() == schemes.get_init_status().model_dump()
    assert ours.get_init_results().model_dump() == schemes.get_init_results().model_dump()


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("StatusMsgDict", "status", "RUNNING"),
        ("BackendConfigSchemaIn", "display_name", "Fermions"),
        ("BackendConfigSchemaIn", "display_name", "../x"),
        ("BackendConfigSchemaIn", "cold_atom_type", "photon"),
        ("BackendStatusSchemaOut", "backend_name", "no_underscores_at_all"),
    ],
)
@given(data=st.data())
@settings(max_examples=3)
def test_both_refuse_the_same(model: str, field: str, value: str, data: st.DataObject) -> None:
    given_input = {**data.draw(inputs(getattr(schemes, model))), field: value}
    for side in (ours, schemes):
        with pytest.raises(ValidationError):
            getattr(side, model)(**given_input)


def test_an_assignment_is_checked() -> None:
    config = ours.BackendConfigSchemaIn.model_validate(
        {
            "description": "d",
            "version": "0.1.0",
            "display_name": "d",
            "cold_atom_type": "spin",
            "gates": [],
            "max_experiments": 1,
            "max_shots": 1,
            "simulator": True,
            "supported_instructions": [],
            "num_wires": 1,
            "wire_order": "interleaved",
            "num_species": 1,
        }
    )
    with pytest.raises(ValidationError):
        config.display_name = "../x"


def test_a_password_is_not_shown() -> None:
    login = ours.MongodbLoginInformation(
        mongodb_username="u",
        mongodb_password="secret",  # noqa: S106 - the secret that must not be shown
        mongodb_database_url="h",
    )
    assert "secret" not in repr(login)


# --- gates of a device -----------------------------------------------------------------------


def _gate(base: Any) -> Any:
    class Rlx(base):  # type: ignore[misc]
        name: Literal["rlx"] = "rlx"
        wires: Annotated[list[int], Field(min_length=0, max_length=2)]
        params: Annotated[list[float], Field(min_length=1, max_length=1)]
        parameters: str = "omega"
        description: str = "Rotation about x"
        coupling_map: list[Any] = Field(default=[[0], [1], [2, 3]])
        qasm_def: str = "gate rlx(omega) {}"

    return Rlx


def test_a_gate_describes_itself_as_in_sqooler() -> None:
    assert json.dumps(_gate(ours.GateInstruction).config_dict()) == json.dumps(
        _gate(schemes.GateInstruction).config_dict()
    )


@given(wires=st.lists(st.integers(0, 4), max_size=3), params=st.lists(finite, max_size=2))
def test_a_gate_takes_what_sqooler_takes(wires: list[int], params: list[float]) -> None:
    answers = []
    for base in (ours.GateInstruction, schemes.GateInstruction):
        try:
            answers.append(_gate(base)(wires=wires, params=params).model_dump_json())
        except ValidationError:
            answers.append(None)
    assert answers[0] == answers[1]
    if wires not in ([0], [1], [2, 3]):
        assert answers[0] is None


def test_a_gate_without_a_coupling_map_takes_any_wires() -> None:
    gate = ours.GateInstruction(
        name="g", parameters="p", wires=[7], description="d", coupling_map=[[0]]
    )
    assert gate.wires == [7]


# --- keys ------------------------------------------------------------------------------------


def test_keys_have_sqoolers_bytes() -> None:
    private, public = security.create_jwk_pair("lab-1")
    read = ours.jwk_from_config_str(private.to_config_str())
    assert read.model_dump_json() == private.model_dump_json()
    assert read.to_config_str() == private.to_config_str()
    assert ours.public_from_private_jwk(read).model_dump_json() == public.model_dump_json()
    assert security.jwk_from_config_str(read.to_config_str()) == private


@given(
    st.dictionaries(
        text, text | finite | st.integers() | moments | st.lists(finite, max_size=2), max_size=4
    )
)
def test_signatures_have_sqoolers_bytes(payload: dict[str, Any]) -> None:
    private = security.create_jwk_pair("lab-1")[0]
    mine = ours.jwk_from_config_str(private.to_config_str())
    theirs = security.sign_payload(payload, private)
    signed = sign_payload(payload, mine)
    assert signed.signature == theirs.signature
    assert signed.header.model_dump_json() == theirs.header.model_dump_json()
    public = security.public_from_private_jwk(private)
    assert security.JWSDict(**signed.model_dump()).verify_signature(public)
    assert theirs.verify_signature(public)
    assert ours.JWSDict(**theirs.model_dump()).verify_signature(ours.public_from_private_jwk(mine))
