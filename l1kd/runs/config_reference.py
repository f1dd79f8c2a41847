"""The configuration described: JSON schema, reference page, a commented file, lists of names.

All of it comes from the models' descriptions, `config_values.yaml`, the sources and the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from pydantic.json_schema import models_json_schema

from l1kd.core import config_file
from l1kd.core.config import Config
from l1kd.core.config_types import VALUES
from l1kd.core.errors import UserError, did_you_mean
from l1kd.core.fpga_parts import PARTS
from l1kd.data.sources import SOURCES

_OF_JSON_SCHEMA = {"ge": "minimum", "le": "maximum"}
_OF_JSON_SCHEMA |= {"gt": "exclusiveMinimum", "lt": "exclusiveMaximum"}
_NOT_OF_A_RUN = ("search", "sweep")  # verbs of their own


class Key(NamedTuple):
    """A key of the configuration in words."""

    name: str  # dotted; NAME stands for a name that the user chooses
    values: str
    default: str  # as YAML; empty: the source's, or none
    about: str
    sources: str  # those whose section `data` has it; empty: all


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, for editors."""
    sections = dict.fromkeys(source.section for source in SOURCES.values())
    models = [(model, "validation") for model in (Config, *sections)]
    definitions = _standard(models_json_schema(models)[1]["$defs"])  # type: ignore[arg-type]
    del definitions["DataSection"]
    # Students may be names alone, the part's name is in `part`; defaults come from the source.
    known = [{"$ref": "#/$defs/Student"}, {"enum": list(_values()["students.architecture"])}]
    definitions["Config"]["properties"]["students"]["items"] = {"anyOf": known}
    del definitions["Student"]["required"]  # an architecture, or a name and a file
    firmware = definitions["Firmware"]["properties"]
    name, has = firmware["part"], definitions["PartHas"]
    part = {"name": {key: name[key] for key in ("type", "pattern")}, **has["properties"]}
    mapping = {"type": "object", "properties": part, "additionalProperties": False}
    firmware["part"] = {key: name.pop(key) for key in ("description", "default")}
    firmware["part"]["anyOf"] = [name, mapping | {"required": ["name", *has["required"]]}]
    whole = definitions.pop("Config")
    references = [{"$ref": f"#/$defs/{section.__name__}"} for section in sections]
    whole["properties"]["data"] |= {"oneOf": references}
    del whole["properties"]["data"]["$ref"], definitions["Teacher"]["required"]
    whole |= {"title": "l1kd", "required": ["data"], "$defs": definitions}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def _standard(node: Any) -> Any:
    """Limits as JSON schema names them: pydantic leaves those behind a validator as they are."""
    if isinstance(node, list):
        return [_standard(each) for each in node]
    if not isinstance(node, dict):
        return " ".join(node.split()) if isinstance(node, str) else node
    return {_OF_JSON_SCHEMA.get(key, key): _standard(value) for key, value in node.items()}


def keys() -> list[Key]:
    """Every key of the configuration, in the order of the models."""
    whole, found = schema(), dict[tuple[str, str], Key]()
    for key in _keys(whole, whole, ""):  # sources may have a key in common
        before = found.get((key.name, key.about))
        others = f"{before.sources}, {key.sources}" if before else key.sources
        found[key.name, key.about] = key._replace(sources=others)
    return list(found.values())


def _keys(whole: Mapping[str, Any], section: Mapping[str, Any], above: str) -> Iterator[Key]:
    for key, value in section["properties"].items():
        below, name = _below(whole, value), f"{above}{key}"
        default = value.get("default", {})
        shown = "" if isinstance(default, dict) and (below or not default) else _yaml(default)
        about = value.get("description") or below[0]["description"]
        yield Key(name, _kind(value), shown, about, "")
        if key == "data":
            yield Key("data.source", " | ".join(SOURCES), "", "Origin of the events.", "")
        for each in below:
            many = "additionalProperties" in value or "patternProperties" in value
            of = ", ".join(_sources(each)) if key == "data" else ""
            for one in _keys(whole, each, f"{name}.NAME." if many else f"{name}."):
                if one.name != "data.source":
                    yield one._replace(sources=of or one.sources)


def _sources(section: Mapping[str, Any]) -> list[str]:
    """The sources that a section `data` is of."""
    name = section["properties"]["source"]
    return name.get("enum") or [name["const"]]


def _below(whole: Mapping[str, Any], value: Any) -> list[Mapping[str, Any]]:
    """The sections that a value may be."""
    if isinstance(value, list):
        return [each for part in value for each in _below(whole, part)]
    if not isinstance(value, dict):
        return []
    if "$ref" in value:
        return [whole["$defs"][value["$ref"].rpartition("/")[2]]]
    return [each for key in value if key != "default" for each in _below(whole, value[key])]


def _kind(value: Mapping[str, Any]) -> str:
    """The values that a schema allows, in words."""
    if "const" in value or "enum" in value:
        return " | ".join(value.get("enum", [value.get("const")]))
    if several := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(each) for each in several))
    if "prefixItems" in value:
        return f"[{', '.join(_kind(each) for each in value['prefixItems'])}]"
    kind = value.get("type", "object")
    if kind == "array":
        number = f" {value['maxItems']}" if "maxItems" in value else ""
        return f"list of{number}: {_kind(value['items'])}"
    low, high = value.get("minimum"), value.get("maximum")
    above, under = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    limits = {"from": low, "above": above, "to": high, "below": under}
    said = [f"{word} {limit:,.12g}" for word, limit in limits.items() if limit is not None]
    names = {"object": "keys", "string": "text", "boolean": "true | false"}
    return " ".join([names.get(kind, kind), *said])


def _yaml(value: Any) -> str:
    """A value as YAML in one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=1_000_000).strip()[1:-1]


def _values() -> dict[str, dict[str, str]]:
    """Values of keys in a line each."""
    return VALUES | {"data.source": {each.name: each.about for each in SOURCES.values()}}


def names() -> dict[str, dict[str, str]]:
    """Names by kind, with a line about each: the lists of `l1kd list`."""
    values, configs = _values(), {}
    for name, path in config_file.shipped().items():
        head = path.read_text(encoding="utf-8").partition("\ndata:")[0].splitlines()
        about = " ".join(line.removeprefix("# ") for line in head)
        configs[name] = about.partition(". ")[0].partition(": `")[0].rstrip(".:")
    parts = {
        each.name: f"{each.short}, {each.family}: {each.lut:,} LUT, {each.ff:,} FF, {each.dsp:,} "
        f"DSP, {each.bram:,} BRAM, {each.uram:,} URAM ({each.source})"
        for each in PARTS.values()
    }
    return {
        "teachers": values["teacher.architecture"],
        "students": values["students.architecture"],
        "parts": parts,
        "configs": configs,
        "sources": values["data.source"],
    }


def describe(name: str) -> list[tuple[str, str]]:
    """All that a name means, as pairs of a heading and a text; UserError if it means nothing."""
    found = [
        (f"{name} ({kind[:-1]})", about)
        for kind, entries in names().items()
        for each, about in entries.items()
        if name.lower() == each or (kind == "parts" and name.lower().startswith(each))
    ]
    plain = ".".join(part for part in name.split(".") if not part.isdecimal())
    known, values = keys(), _values()
    for key in known:
        last = key.name.rpartition(".")[2]  # is enough
        if plain in (key.name, key.name.replace(".NAME", ""), last):
            default = f"; default {key.default}" if key.default else ""
            of = f" (source {key.sources})" if key.sources else ""
            found.append((f"{key.name}{of}", f"{key.about} Values: {key.values}{default}."))
            found += [(f"  {each}", about) for each, about in values.get(key.name, {}).items()]
    for of, meanings in values.items():
        if plain in meanings and not of.endswith(("architecture", "source")):
            found.append((f"{plain} ({of})", meanings[plain]))
    if not found:
        every = [each for entries in names().values() for each in entries]
        near = did_you_mean(name, [*every, *(key.name for key in known)])
        raise UserError(f"nothing is named {name!r}{near}; see `l1kd list` and `l1kd schema`")
    return found


def markdown() -> str:
    """The reference of the configuration: docs/configuration.md."""
    lines = [
        "# The configuration",
        "",
        "Written by `l1kd schema --format markdown > docs/configuration.md` from the models'",
        "descriptions. Where the default is empty there is none, or it suits the source. In a",
        "terminal `l1kd describe KEY` says the same; `l1kd schema` is for editors.",
    ]
    values, section = _values(), ""
    for key in keys():
        top = key.name.partition(".")[0]
        if top != section:
            section = top
            lines += ["", f"## {top}", "", "| key | values | default | |", "|---|---|---|---|"]
        about = f"{key.about} Source: {key.sources}." if key.sources else key.about
        meanings = [f"`{each}`: {text}" for each, text in values.get(key.name, {}).items()]
        cells = [f"`{key.name}`", key.values, key.default, "<br>".join([about, *meanings])]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def commented(config: Config) -> str:
    """A configuration as a YAML file: what is set, and every other key behind a `#`."""
    whole, given = schema(), config.model_dump(mode="json", exclude_unset=True)
    lines: list[str] = []

    def write(section: Mapping[str, Any], given: Mapping[str, Any], indent: str) -> None:
        for key, value in section["properties"].items():
            below, start = _below(whole, value), f"{indent}{'' if key in given else '#'}{key}:"
            if (not indent and key in _NOT_OF_A_RUN) or key == "part_has":
                continue
            lines.append(f"{indent}# {value.get('description') or below[0]['description']}")
            if key == "students" and not indent:
                of_one = below[0]["properties"].items()
                lines.extend(f"#   {name}: {its['description']}" for name, its in of_one)
                lines.append(start)
                lines.extend(f"  - {_yaml(_short(each))}" for each in given[key])
            elif "$ref" in value or "oneOf" in value:
                lines.append(start)
                own = below[0]
                if key == "data":
                    own = next(each for each in below if config.data.source in _sources(each))
                write(own, given.get(key, {}), f"{indent}  ")
            else:
                lines.append(f"{start} {_yaml(given.get(key, value.get('default')))}")
            if not indent:
                lines.append("")

    write(whole, given, "")
    return "\n".join(lines)


def _short(student: dict[str, Any]) -> dict[str, Any]:
    """Without the name that the architecture gives."""
    return {k: v for k, v in student.items() if k != "name" or v != student["architecture"]}
