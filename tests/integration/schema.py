# SPDX-License-Identifier: Apache-2.0
"""The part of JSON Schema that the files in cli/schema use; no package is needed."""
import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
KNOWN = {"$schema", "$id", "title", "description", "type", "properties", "required", "items", "enum", "const", "pattern",
         "format"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def is_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(value, schema, at="$"):
    """What is wrong with the value, as a list of texts. Members that the schema does not know are wrong as well."""
    unknown = set(schema) - KNOWN
    if unknown:
        return [f"{at}: the schema uses {unknown}"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(value, t) for t in types):
        return [f"{at}: {value!r} is no {' or '.join(types)}"]
    found = []
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{at}: {value!r} does not match {schema['pattern']}")
        if schema.get("format") == "date-time" and not TIME.match(value):
            found.append(f"{at}: {value!r} is no time")
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{at}.{key} is missing" for key in schema["required"] if key not in value]
        for key, member in value.items():
            if key in schema["properties"]:
                found += problems(member, schema["properties"][key], f"{at}.{key}")
            elif key not in INTERNAL:
                found.append(f"{at}.{key} is not in the schema")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += problems(item, schema["items"], f"{at}[{i}]")
    return found


# in the registry for the supervisor's own use, and no promise to anybody
INTERNAL = {"start_ticks", "pgid", "nonce", "streak", "restart_times", "pending_crash", "config_digest", "going_down"}
