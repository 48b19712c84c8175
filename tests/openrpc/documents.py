"""Documents that are awkward in one way each."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def document(*methods: Json, title: str = "Awkward", components: Json | None = None, **schemas: Any) -> Json:
    """A document of these methods, and of these schemas among its components."""
    return {"openrpc": "1.3.2", "info": {"title": title, "version": "1"}, "methods": list(methods), "components": {"schemas": schemas, **(components or {})}}


def method(name: str, *params: Json, result: Any = True, **members: Any) -> Json:
    """A method; *result* is a schema, or None for a notification."""
    return {"name": name, "params": list(params), **({} if result is None else {"result": {"name": "result", "schema": result}}), **members}


def param(name: str, schema: Any = True, **members: Any) -> Json:
    return {"name": name, "schema": schema, **members}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def thing(**properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
HOSTILE = 'a """ quote\\n \\ backslash {braces} %s\r\n"""\nimport os\x00\x1b[31m\u2028 end\\'

AWKWARD: dict[str, Json] = {
    "no_methods": document(),
    "no_title": document(method("a"), title=""),
    "digits_for_a_title": document(method("a"), title="3 little pigs"),
    "a_title_that_is_a_schema": document(method("get", result=ref("Wallet")), title="Wallet", Wallet=thing(a=TEXT), AsyncWallet=thing(b=TEXT)),
    "names_of_methods": document(
        *map(
            method,
            [
                "wallet.getBalance",
                "wallet_get_balance",
                "wallet-getBalance",
                "eth_getBalance",
                "rpc.discover",
                "getHTTPResponse",
                "class",
                "import",
                "None",
                "l",
                "I",
                "list",
                "str",
                "dict",
                "int",
                "type",
                "Any",
                "rpc",
                "notification",
                "date",
                "datetime",
                "UUID",
                "self",
                "1st",
                "2fa.enable",
                "%$&",
                "_private",
                "__init__",
                "résumé",
                "余额",
                "a" * 120,
                "with space",
                "with\nline",
                'quote"',
                "Field",
                "Literal",
                "Awkward",
                "print",
                "__class__",
                "name_",
                "name",
            ],
        ),
        method("uses", param("a", {"type": "array", "items": {"type": "string", "format": "date"}}), result={"type": "object", "additionalProperties": TEXT}),
        method("uses_more", param("a", {"type": "string", "format": "uuid"}), result={"type": "array", "items": {"enum": ["a", "b"]}}),
    ),
    "names_of_params": document(
        *[
            method(
                f"call_{structure}",
                *[
                    param(name, TEXT)
                    for name in [
                        "from",
                        "self",
                        "cls",
                        "a-b",
                        "a_b",
                        "a.b",
                        "1st",
                        "_x",
                        "__y",
                        "",
                        "l",
                        "O",
                        "ü",
                        "日",
                        "with space",
                        "list",
                        "str",
                        "None",
                        "Field",
                    ]
                    if name
                ],
                **({"paramStructure": structure} if structure else {}),
            )
            for structure in ("", "by-name", "by-position", "either")
        ]
    ),
    "names_of_members": document(
        method("a", result=ref("Odd")),
        Odd={
            "type": "object",
            "properties": dict.fromkeys(
                ["from", "self", "a-b", "a_b", "1st", "_x", "", "l", "copy", "json", "schema", "model_config", "model_fields", "str", "date", "日", "$ref"],
                TEXT,
            )
            | {
                "Odd": ref("Odd"),
                "Other": ref("Other"),
                "list": {"type": "array", "items": TEXT},
                "dict": {"type": "object", "additionalProperties": WHOLE},
                "int": WHOLE,
            },
        },
        Other=thing(date={"type": "string", "format": "date"}, other={"type": "string", "format": "date"}),
    ),
    "names_of_schemas": document(
        method(
            "a",
            result={"anyOf": [ref(name) for name in ["a.b", "a_b", "AB", "1st", "class", "None", "Model", "BaseModel", "Any", "Field", "List", "%", "日本"]]},
        ),
        **{name: thing(a=TEXT) for name in ["a.b", "a_b", "AB", "1st", "class", "None", "Model", "BaseModel", "Any", "Field", "List", "Awkward", "%", "日本"]},
        ERRORS=thing(a=TEXT),
        JsonRpcError=thing(b=TEXT),
        NotFoundError=thing(c=TEXT),
        date=thing(d={"type": "string", "format": "date"}),
        str=thing(d=TEXT),
        UUID={"type": "string", "format": "uuid"},
    ),
    "a_schema_called_as_an_error": document(
        method("a", errors=[{"code": 1, "message": "Not found"}], result=ref("NotFoundError")), NotFoundError=thing(a=TEXT)
    ),
    "recursion": document(
        method("a", param("tree", ref("Tree")), result=ref("Json")),
        method("b", result=ref("Even")),
        Tree={"type": "object", "properties": {"children": {"type": "array", "items": ref("Tree")}, "parent": ref("Tree")}, "required": ["children"]},
        Json={"oneOf": [TEXT, NUMBER, {"type": "array", "items": ref("Json")}, {"type": "object", "additionalProperties": ref("Json")}, {"type": "null"}]},
        Even=thing(odd=ref("Odd")),
        Odd={"type": "object", "properties": {"even": ref("Even")}},
    ),
    "local_references": document(
        method("a", param("x", {"definitions": {"P": thing(a=TEXT)}, "type": "array", "items": {"$ref": "#/definitions/P"}})),
        method("b", param("x", {"$defs": {"P": thing(b=WHOLE)}, "type": "array", "items": {"$ref": "#/$defs/P"}})),
        method("c", param("x", {"type": "object", "properties": {"next": {"$ref": "#"}}})),
        method("d", param("x", ref("Holder/properties/inner"))),
        method("e", param("x", {"$ref": "#/methods/0/params/0/schema"})),
        method("f", param("x", {"$ref": "#/components/contentDescriptors/Pet/schema"})),
        method("g", param("x", ref("with~1slash")), result=ref("with%20space")),
        components={"contentDescriptors": {"Pet": param("pet", thing(name=TEXT))}},
    )
    | {},
    "references_to_descriptors_methods_and_errors": {
        **document(method("a", {"$ref": "#/components/contentDescriptors/Pet"}, errors=[{"$ref": "#/components/errors/Gone"}])),
        "components": {
            "contentDescriptors": {"Pet": param("pet", thing(name=TEXT), required=True), "Same": {"$ref": "#/components/contentDescriptors/Pet"}},
            "errors": {"Gone": {"code": 7, "message": "It is gone", "data": {"$ref": "#/components/schemas/Why"}}},
            "schemas": {"Why": thing(reason=TEXT)},
            "x-methods": {"M": method("b", {"$ref": "#/components/contentDescriptors/Same"})},
        },
    },
    "a_document_without_references": document(
        method("a", result={"title": "Pet", **thing(name=TEXT, tag={"title": "Tag", **thing(id=WHOLE)})}),
        method("b", result={"type": "array", "items": {"title": "Pet", **thing(name=TEXT, tag={"title": "Tag", **thing(id=WHOLE)})}}),
        method("c", result={"title": "Pet", **thing(other=TEXT)}),
        Pet={"title": "Pet", **thing(name=TEXT, tag={"title": "Tag", **thing(id=WHOLE)})},
    ),
    "unions": document(
        method("a", param("x", {"oneOf": [TEXT, WHOLE, {"type": "null"}]}), result={"anyOf": [ref("Cat"), ref("Dog"), thing(other=TEXT)]}),
        method("b", result={"oneOf": [thing(kind={"const": "circle"}, r=NUMBER), thing(kind={"const": "square"}, a=NUMBER)]}),
        method("c", result={"allOf": [ref("Cat"), ref("Dog")]}),
        method("d", result={"allOf": [ref("Cat"), {"type": "object", "properties": {"more": thing(deep=TEXT)}, "required": ["more"]}]}),
        method("e", result={"allOf": [{"description": "A cat.", **ref("Cat")}]}),
        method("f", result={"type": "object", "properties": {"a": TEXT, "b": TEXT}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        method("g", result={"anyOf": [{"type": "object", "properties": {"a": TEXT}}, {"type": "array", "items": thing(b=TEXT)}]}),
        method("h", result={"type": ["object", "null", "string"], "properties": {"a": TEXT}}),
        method("i", result={"allOf": [{"type": "string", "minLength": 1}, {"maxLength": 3}]}),
        method("j", result={"not": TEXT}),
        method("k", result={"type": "object", "properties": {"a": TEXT}, "if": {"properties": {"a": {"const": "b"}}}, "then": {"required": ["a"]}}),
        Cat=thing(kind={"const": "cat"}, lives=WHOLE),
        Dog=thing(kind={"const": "dog"}, tricks={"type": "array", "items": TEXT}),
        Pet={"oneOf": [ref("Cat"), ref("Dog")], "discriminator": {"propertyName": "kind"}},
    ),
    "literals": document(
        method("a", param("x", {"enum": ["a", "b"]}, default="a"), result={"enum": [1, 2.5, None]}),
        method("b", param("x", {"const": 1.5}), result={"const": {"a": [1]}}),
        method("c", param("x", {"enum": [True, False]}), result={"enum": [None]}),
        method(
            "d", param("x", {"type": "string", "enum": ["", " ", "a\nb", 'q"', "\\", "é", "'''"]}), result={"type": ["string", "null"], "enum": ["a", None]}
        ),
        method("e", param("x", {"type": "integer", "enum": [1, -1, 10**30]}), result={"enum": [{"a": 1}, [2], "x"]}),
        method("f", param("x", ref("State")), result={"type": "array", "items": ref("State")}),
        State={"type": "string", "enum": ["open", "closed"], "description": "Whether it is."},
    ),
    "constraints": document(
        method(
            "a",
            param("short", {"type": "string", "minLength": 1, "maxLength": 3}, required=True),
            param("look_ahead", {"type": "string", "pattern": "^(?!x).*$"}),
            param("pattern", {"type": "string", "pattern": r"^[\w\"'-]+$"}),
            param("no_pattern", {"type": "string", "pattern": "(["}),
            param("few", {"type": "array", "items": {"type": "string", "pattern": "^a"}, "minItems": 1, "uniqueItems": True}),
            param("much", {"type": "number", "exclusiveMinimum": 0, "maximum": 1e400, "multipleOf": 0.01}),
            param("draft_4", {"type": "integer", "minimum": 1, "exclusiveMinimum": True}),
            param("pair", {"type": "array", "items": [TEXT, WHOLE], "minItems": 2, "maxItems": 2}),
            param("prefix", {"type": "array", "prefixItems": [TEXT, thing(a=TEXT)]}),
            param("nothing", {"type": "array", "items": []}),
            param("never", False),
            param("maybe", {"type": ["string", "null"], "minLength": 2}),
        ),
    ),
    "formats": document(
        method(
            "a",
            *[
                param(f"p_{index}", {"type": "string", "format": name})
                for index, name in enumerate(["date-time", "date", "time", "duration", "uuid", "email", "uri"])
            ],
            *[
                param(f"q_{index}", {"type": "string", "format": name})
                for index, name in enumerate(["password", "ipv4", "byte", "binary", "hostname", "odd", "path"])
            ],
            *[param(f"n_{name}", {"type": "number", "format": name}) for name in ("float", "double", "decimal", "time")],
            *[param(f"i_{index}", {"type": "integer", "format": name}) for index, name in enumerate(("int32", "unix-time"))],
            result={"type": ["string", "null"], "format": "date-time"},
        ),
    ),
    "objects": document(
        method("a", result={"type": "object"}),
        method("b", result={"type": "object", "additionalProperties": False}),
        method("c", result={"type": "object", "additionalProperties": ref("Mixed")}),
        method("d", result={"type": "object", "patternProperties": {"^x-": thing(a=TEXT), "^y-": WHOLE}}),
        method("e", result={"properties": {"no_type": {}}}),
        method("f", result={"type": "object", "required": ["missing"]}),
        method("g", result={"type": "object", "properties": {}, "required": []}),
        Mixed={"type": "object", "properties": {"a": TEXT}, "additionalProperties": WHOLE},
        Closed={"type": "object", "properties": {"a": TEXT}, "additionalProperties": False},
        Empty={},
        Anything=True,
        Nothing=False,
    ),
    "defaults": document(
        method(
            "a",
            param("text", {"type": "string", "default": 'say "x"'}),
            param("whole", {"type": "integer", "default": -1}),
            param("number", {"type": "number", "default": 0.5}),
            param("huge", {"type": "number", "default": 1e400}),
            param("truth", {"type": "boolean", "default": False}),
            param("wrong", {"type": "integer", "default": "one"}),
            param("almost", {"type": "integer", "default": True}),
            param("choice", {"enum": ["a", "b"], "default": "b"}),
            param("no_choice", {"enum": ["a", "b"], "default": "c"}),
            param("list", {"type": "array", "items": TEXT, "default": ["x"]}),
            param("day", {"type": "string", "format": "date", "default": "2020-01-01"}),
            param("object", thing(a={"type": "string", "default": "x"}) | {"default": {"a": "y"}}),
            param("null", {"type": ["string", "null"], "default": None}),
        ),
    ),
    "orders_of_params": document(
        method("a", param("optional"), param("needed", required=True)),
        method("b", param("optional"), param("needed", required=True), paramStructure="by-name"),
        method("c", param("optional"), param("needed", required=True), param("last"), paramStructure="either"),
        method("d", param("a", required=True), param("b"), param("c"), paramStructure="by-name"),
    ),
    "notifications": document(
        method("tick", result=None), method("log", param("line", TEXT, required=True), param("from", TEXT), result=None, paramStructure="by-name")
    ),
    "errors": document(
        method(
            "a",
            errors=[
                {"code": -32602, "message": "Invalid params"},
                {"code": -32601, "message": "No such", "data": thing(method=TEXT)},
                {"code": -32000, "message": "Busy"},
                {"code": 1, "message": ""},
                {"code": 2, "message": 'A "quoted" one\nin two lines', "data": TEXT},
                {"code": 3, "message": "Same"},
                {"code": 4, "message": "Same"},
                {"code": 5, "message": "One thing", "data": thing(a=TEXT)},
                {"code": 6, "message": "An example", "data": {"seconds": 3}},
                {"code": 7, "message": "JsonRpc", "data": {"type": "array", "items": ref("Why")}},
                {"code": 8, "message": "class"},
                {"code": 9, "message": "!?"},
            ],
        ),
        method("b", errors=[{"code": 5, "message": "Another", "data": thing(b=TEXT)}, {"code": 3, "message": "Same"}]),
        Why=thing(reason=TEXT),
    ),
    "hostile_text": {
        **document(
            method(
                "a",
                param("x", {"type": "string", "description": HOSTILE, "enum": [HOSTILE]}, description=HOSTILE),
                summary=HOSTILE,
                description=HOSTILE,
                errors=[{"code": 1, "message": HOSTILE, "data": {"type": "object", "description": HOSTILE, "properties": {HOSTILE: {"const": HOSTILE}}}}],
                deprecated=True,
            ),
            method(HOSTILE, param(HOSTILE, {"title": HOSTILE, "type": "object", "properties": {"a": {"description": HOSTILE}}}), paramStructure="by-name"),
            title=HOSTILE,
            **{HOSTILE: thing(a={"type": "string", "pattern": HOSTILE, "default": HOSTILE})},
        ),
        "x-anything": {"$ref": "nowhere"},
    },
    "long_text": document(
        method("a", param("x", {"type": "string", "description": "word " * 100}, description="word " * 100), summary="word " * 100, description="x" * 300),
        method("b", param("x", {"type": "string", "pattern": f"^({'|'.join(['abcdefgh'] * 40)})$"}), result={"enum": ["y" * 200]}),
    ),
    "extensions": document(
        {
            **method("a", {**param("x", {**TEXT, "x-y": {"$ref": "nowhere"}}), "x-z": 1}),
            "x-a": [],
            "tags": [{"name": "t"}],
            "servers": [],
            "links": [],
            "examples": [],
        },
        {
            **method(
                "b", result={"$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.org/x", "$comment": "c", "examples": [1], **TEXT}
            )
        },
    ),
    "results_without_schema_or_name": document(
        # As OpenRPC's own examples have them: petstore-expanded and link-example.
        {"name": "delete_pet", "params": [param("id", WHOLE, required=True)], "result": {"name": "pet", "description": "pet deleted"}},
        {"name": "merge_pull_request", "params": [param("username", TEXT, required=True)], "result": {"description": "the PR was successfully merged"}},
        {"name": "null", "params": None, "result": None, "summary": None, "paramStructure": None, "errors": None, "tags": None},
        {"name": "nothing"},
        {"name": "schemaless", "params": [{"name": "a"}, {"name": "b", "schema": None, "description": None}], "result": {"schema": None, "name": None}},
        components={"schemas": None, "errors": None},
    ),
    "no_components": {
        "openrpc": "1.2.6",
        "info": {"title": None, "version": None},
        "components": None,
        "methods": [method("a", errors=[{"code": 1, "message": None}])],
    },
    "lists_of_types": document(
        method("a", param("x", {"type": ["string", "integer"], "minLength": 2, "minimum": 3}), result={"type": ["integer", "number"]}),
        method("b", param("x", {"type": ["array", "string", "null"], "items": {"type": ["number", "string"], "maximum": 5}, "minItems": 2})),
        method("c", result={"type": ["object", "string", "boolean"], "pattern": "^a", "properties": {"a": {"type": ["integer", "null"], "minimum": 1}}}),
        method("d", result=ref("Mixed")),
        method("e", param("x", {"type": ["string", "integer"], "format": "date", "enum": ["a", 1]})),
        Mixed={"type": ["string", "number"], "description": "One or the other.", "minLength": 1, "multipleOf": 5},
    ),
    "members_that_mean_something_else": document(
        method("a", result=ref("Odd")),
        method("b", result={"oneOf": [{"required": ["a-b"]}, {"required": ["Field"]}], **thing(Field=TEXT, **{"a-b": WHOLE, "a_b": WHOLE})}),
        Odd={
            "type": "object",
            "properties": {
                **dict.fromkeys(["Field", "Any", "Annotated", "Literal", "Model", "Number", "BaseModel", "TypeAliasType", "float", "int", "Base", "Odd"], TEXT),
                **dict.fromkeys(["model_dump", "model_dump_json", "model_validate", "model_x", "ﬁ", "list", "list_", "a.b", "Odd.list", "type"], TEXT),
                "limited": {"type": "integer", "minimum": 1},
                "choice": {"enum": ["a", "b"]},
                "list-": {"type": "array", "items": NUMBER},
                "number": {"type": ["number", "null"], "maximum": 5},
            },
        },
        Base=thing(**{"a-b": TEXT, "copy": TEXT}),
        Derived={"allOf": [ref("Base"), thing(a_b=WHOLE, copy_=WHOLE)]},
    ),
    "limits_of_limits": document(
        method(
            "a",
            param("huge", {"type": "number", "maximum": 10**400, "minimum": -(10**400)}),
            param("large", {"type": "number", "maximum": 1e30, "minimum": -(10**30)}),
            param("whole", {"type": "integer", "maximum": 10**30, "minimum": -1e30}),
            param("halves", {"type": "integer", "exclusiveMaximum": 1.5, "exclusiveMinimum": -1.5, "multipleOf": 0.5}),
            param("zero", {"type": "number", "multipleOf": 0}),
            param("negative", {"type": "integer", "multipleOf": -2}),
            param("fives", {"type": "number", "multipleOf": 5.0}),
            param("many", {"type": "array", "items": TEXT, "maxItems": 2**63, "minItems": 1.0}),
            param("long", {"type": "string", "maxLength": 1e30, "minLength": -1}),
        ),
    ),
    "names_of_errors": document(
        method("a", errors=[{"code": 1, "message": "Server"}, {"code": 2, "message": "Same"}, {"code": 3, "message": "Same"}, {"code": 4, "message": "Same"}]),
        title="Shop",
        SameError=thing(a=TEXT),
    ),
    "the_meta_schema": document(method("rpc.discover", result={"$ref": "https://raw.githubusercontent.com/open-rpc/meta-schema/master/schema.json"})),
}
AWKWARD["local_references"]["components"]["schemas"] = {
    "Holder": thing(inner=thing(a=TEXT)),
    "with/slash": thing(a=TEXT),
    "with space": {"type": "array", "items": thing(c=TEXT)},
}
AWKWARD["references_to_descriptors_methods_and_errors"]["methods"].append({"$ref": "#/components/x-methods/M"})
