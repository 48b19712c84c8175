"""What generated modules are built of."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, SerializationInfo, SerializerFunctionWrapHandler, model_serializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

__all__ = ["Model", "Number"]

# It has a name since linters call the int in int | float needless, and would take it out.
Number: TypeAlias = int | float
"""A number of a schema: whole ones stay whole. As a ``float``, 6 is sent as ``6.0``, and ``2**53 + 1`` as another number."""


class Model(BaseModel):
    """A pydantic model that is written without the members that it was not given.

    A server whose schema has no null for a member refuses the null that pydantic would write for it, and a default of the
    schema is the server's to fill in. Members are given under their names in Python, or under those of the document.
    """

    # Members of a document may be called model_anything.
    model_config = ConfigDict(populate_by_name=True, protected_namespaces=())

    @model_serializer(mode="wrap")
    def _write_what_was_given(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        given = self.model_fields_set
        for name, field in type(self).model_fields.items():
            if name not in given:
                document.pop((field.serialization_alias or name) if info.by_alias else name, None)
        return document

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler, /) -> JsonSchemaValue:
        # Of the serializer pydantic knows no more than that it returns a dict.
        fields: Any = {key: value for key, value in core_schema.items() if key != "serialization"}
        return handler(fields)
