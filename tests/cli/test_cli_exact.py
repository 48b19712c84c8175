"""JSON in and out, every number as it was written."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry.cli._exact import ExactCodec, Written, read, read_all, write

NUMBERS = ["0", "-0", "1", "-7", "1.10", "0.10000000000000000000000001", "1e400", "-1E-7", "12345678901234567890123", "9" * 5_000, "-" + "8" * 700]


@pytest.mark.parametrize("text", NUMBERS, ids=lambda text: text[:12])
def test_numbers_keep_their_spelling(text):
    assert write(read(text)) == text
    assert write(read(f'[{{"a":{text}}}]')) == f'[{{"a":{text}}}]'


def test_what_was_written_is_a_number_all_the_same():
    assert read("1.10") == 1.1
    assert read("1e400") == math.inf
    assert type(read("7")) is int
    assert isinstance(read("7.0"), Written)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=values, indent=st.none() | st.integers(0, 4))
def test_what_is_written_reads_as_it_was(value, indent):
    text = write(value, indent)
    assert json.loads(text) == value
    assert read(text) == value
    text.encode()
    assert indent is not None or "\n" not in text


@settings(max_examples=50, deadline=None)
@given(value=values)
def test_indented_as_the_json_module_does(value):
    ours = write(value, 2)
    theirs = json.dumps(value, indent=2, ensure_ascii=False)
    assert ours == theirs or any(ord(char) in range(0x7F, 0xA0) or 0xD800 <= ord(char) <= 0xDFFF for char in theirs)


def test_what_terminals_act_on_and_utf8_has_not_is_escaped():
    assert write("\x1b\x7f\x9b\ud800é€😀") == '"\\u001b\\u007f\\u009b\\ud800é€😀"'


def test_what_the_parser_can_read_is_written_however_deep():
    text = "[" * 900 + "]" * 900
    assert write(read(text)) == text
    with pytest.raises(ValueError, match="nested too deeply"):
        read("[" * 100_000)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":-Infinity}'])
def test_what_is_no_json_is_not_read(text):
    with pytest.raises(ValueError, match="is no JSON; send null or a string instead"):
        read(text)


def test_values_one_after_the_other():
    assert list(read_all('\n{"a":1}\n\n{"b":\n2}{"c":3}\n[1] 5\n')) == [(2, {"a": 1}), (4, {"b": 2}), (5, {"c": 3}), (6, [1]), (6, 5)]
    assert list(read_all(" \n\t")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a":1}\n{"b"\n', "line 3 is no JSON: Expecting ':' delimiter at column 1"),
        ('{"a":1}\nx', "line 2 is no JSON: Expecting value at column 1"),
        ("1\n\n\nNaN", "line 4 is no JSON: NaN is no JSON; send null or a string instead"),
        ("1\n" + "[" * 100_000, "line 2 is nested too deeply"),
    ],
    ids=["cut", "word", "nan", "deep"],
)
def test_the_line_of_what_is_none_is_named(text, message):
    with pytest.raises(ValueError) as caught:
        list(read_all(text))
    assert str(caught.value) == message


def test_the_codec_keeps_what_it_read():
    codec = ExactCodec()
    codec.loads(b'{"id":1,"result":1.10}', None)
    codec.loads('\ufeff[{"id":"a","result":2},{"id":true},{"id":null},3]'.encode(), None)
    assert codec.answers == {1: {"id": 1, "result": 1.1}, "a": {"id": "a", "result": 2}}
    assert write(codec.last) == '[{"id":"a","result":2},{"id":true},{"id":null},3]'
    assert codec.loads('"é"'.encode("latin-1"), "latin-1") == "é"
    assert codec.dumps({"a": read("1.10"), "b": "é"}) == '{"a":1.10,"b":"é"}'.encode()
