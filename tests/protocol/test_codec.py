"""What is put together by hand says what the encoder says."""

from __future__ import annotations

import uuid

import pytest
from msgspec import Raw

from iii_skill.protocol.codec import encode, invoke_text, normal_id, result_text
from iii_skill.protocol.outgoing import InvocationReply, Invoke

ID = "01234567-89ab-4cde-8f01-23456789abcd"


@pytest.mark.parametrize("function_id", ["state::get", 'of::"quotes"\\', "of::\n☃", ""])
@pytest.mark.parametrize("value", [b"null", b"0", b'{"a":[1,"\xe2\x98\x83"]}'])
def test_an_answer_put_together_is_the_one_encoded(function_id: str, value: bytes) -> None:
    assert result_text(ID, function_id, value) == encode(InvocationReply(ID, function_id, Raw(value)))


@pytest.mark.parametrize("function_id", ["state::get", 'of::"quotes"\\', "of::\n☃", ""])
@pytest.mark.parametrize("data", [b"null", b"0", b'{"a":[1,"\xe2\x98\x83"]}'])
def test_a_call_put_together_is_the_one_encoded(function_id: str, data: bytes) -> None:
    assert invoke_text(ID, function_id, data) == encode(Invoke(ID, function_id, Raw(data)))


def test_any_number_of_names_gives_the_same_texts() -> None:
    for number in range(2500):
        name = f"f::{number}"
        assert result_text(ID, name, b"1") == encode(InvocationReply(ID, name, Raw(b"1")))
        assert invoke_text(ID, name, b"1") == encode(Invoke(ID, name, Raw(b"1")))


@pytest.mark.parametrize("given", [ID, str(uuid.UUID(int=0)), "ffffffff-ffff-ffff-ffff-ffffffffffff"])
def test_a_normal_id_stays_the_object_that_it_is(given: str) -> None:
    assert normal_id(given) is given


@pytest.mark.parametrize(
    "given", [ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}", ID.replace("a", "A", 1)]
)
def test_other_forms_of_a_uuid_become_normal(given: str) -> None:
    assert normal_id(given) == ID


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x" * 36,
        "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
        ID[:-1],
        f"{ID}0",
        ID.replace("0", "g"),
        "-" * 36,
        ID.replace("0", "é"),
    ],
)
def test_what_is_no_uuid_is_none(given: str) -> None:
    assert normal_id(given) is None
