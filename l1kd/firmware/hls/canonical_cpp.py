"""The canonical form of a project's C++: one statement a line, one reading for every compiler.

What hls4ml writes is printed anew: without comments, conditions, namespaces and strings; constants
are decimal integers; every include of the library is in `library.h`, which the others include. So
one text can stand outside of namespaces, where vendors' tools look for the top function, and inside
of the project's version namespace (`testbench`). The certificate reads this form and no other.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

# Included in this order: by hls4ml's top function, its types and its generated code.
STANDARD = ("iostream", "array", "cstddef", "cstdio", "tuple")
SHARED = (
    *("ap_fixed.h", "ap_int.h", "hls_stream.h", "nnet_utils/nnet_types.h"),
    *("nnet_utils/nnet_conv1d_latency.h", "nnet_utils/nnet_helpers.h"),
    *("nnet_utils/nnet_common.h", "nnet_utils/nnet_function_stubs.h", "nnet_utils/nnet_mult.h"),
)
GENERATED = "nnet_utils/nnet_code_gen.h"
_NO_CODE = re.compile(r"//[^\n]*|/\*.*?\*/|^#ifndef __SYNTHESIS__\n.*?^#endif\n", re.M | re.S)
_PIECE = re.compile(r"[^;{}]*(?:\{\};|\{[-\d, ]+\};|\{|\};?|;)")
_NUMBER = re.compile(r"static const (?P<kind>[\w:]+) (?P<name>\w+) = (?P<value>[^{}]+);")
_PIXELS = re.compile(r"static const ap_uint<(?P<word>.+)> (?P<name>\w+)\[(?P<size>.+)\];")
_OUTSIDE = re.compile(r"const ap_uint<.*> (?P<struct>\w+)::(?P<name>\w+)\[\] = ")
_TABLE = re.compile(r"(?P<head>\w+ \w+\[\d+\] = )\{(?P<values>[^{}]*)\};")
_PRODUCT = re.compile(r"\b\d+(?:\*\d+)+\b")


def write(directory: Path, top: str, namespace: str) -> None:
    """Bring what hls4ml wrote for a namespace into the canonical form."""
    firmware = directory / "firmware"
    parameters = (firmware / "parameters.h").read_text(encoding="utf-8")

    def inner(name: str) -> str:
        return _inner((firmware / name).read_text(encoding="utf-8"), namespace)

    weights = re.findall(r'#include "(weights/\w+\.h)"', parameters)
    utils = sorted(set(re.findall(r'#include "(nnet_utils/\w+\.h)"', parameters)) - {GENERATED})
    shared = [name for name in utils if name not in SHARED]
    generated = (firmware / GENERATED).read_text(encoding="utf-8")
    generated = generated.partition("// hls4ml insert code\n")[2]
    written = {
        f"{top}.cpp": [
            *_includes(f"{top}.h", "parameters.h", "ports.h"),
            *lines(_without_aliases(inner(f"{top}.cpp"))),
        ],
        f"{top}.h": [*_includes("defines.h"), *lines(inner(f"{top}.h"))],
        "library.h": [*(f"#include <{name}>" for name in STANDARD), *_includes(*SHARED, *shared)],
        "defines.h": [*_includes("library.h"), *lines(inner("defines.h"))],
        "parameters.h": [
            *_includes("defines.h", GENERATED, *weights),
            *_constants(lines(inner("parameters.h"))),
        ],
        GENERATED: lines(_inner(f"namespace {namespace} {{\n{generated}", namespace)),
        **{name: _values(inner(name)) for name in weights},
    }
    for name, content in written.items():
        if name.endswith(".h"):
            macro = f"{namespace}_{Path(name).stem.upper()}_H_"
            content = [f"#ifndef {macro}", f"#define {macro}", *content, "#endif"]
        (firmware / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    for path in (firmware / "weights").iterdir():
        if f"weights/{path.name}" not in weights:
            path.unlink()


def _includes(*names: str) -> list[str]:
    return [f'#include "{name}"' for name in names]


def _inner(text: str, namespace: str) -> str:
    """The code inside of the namespace, by names that are found without it."""
    _, separator, code = _NO_CODE.sub("", text).partition(f"namespace {namespace} {{\n")
    code, end, _ = code.rpartition("\n}")
    if not separator or not end:
        raise RuntimeError("hls4ml wrote a file of another form")
    # hls4ml's code for distributed arithmetic takes its own names to be in `nnet`.
    code = re.sub(r"\bnnet::(dense_da_\d|fill_buffer_\d)", r"\1", code)
    code = re.sub(r"(?<![\w:])bit_shift<", "nnet::bit_shift<", code)
    return code.replace(f"{namespace}::", "")


def _without_aliases(code: str) -> str:
    """The top function with one name for each array: hls4ml writes `auto& flat = image;`."""
    while found := re.search(r"auto& (\w+) = (\w+);", code):
        code = re.sub(rf"\b{found[1]}\b", found[2], code.replace(found[0], ""))
    return code


def lines(code: str) -> list[str]:
    """C++ without comments, one statement a line."""
    code = re.sub(r"^\s*(#pragma .*)$", r"\1;", code, flags=re.MULTILINE)
    code = " ".join(code.replace("public:", "public:;").split()).replace("template <", "template<")
    code = re.sub(r'\("\w+"\)', "", code).replace("= {0};", "= 0;")  # streams have no names
    code = re.sub(r"([(<]|= \{) | ([)>])", r"\1\2", code)
    code = _PRODUCT.sub(lambda found: str(math.prod(map(int, found[0].split("*")))), code)
    depth, found = 0, []
    for piece in _PIECE.findall(code):
        line = piece.strip()
        depth -= line.startswith("}")
        bare = line.startswith("#pragma") or line == "public:;"
        found.append("    " * depth + (line.removesuffix(";").strip() if bare else line))
        depth += line.endswith("{")
    return found


def _constants(content: list[str]) -> Iterator[str]:
    """Lines of `parameters.h`, each constant with its value."""
    known: dict[str, int] = {}
    pixels: dict[str, str] = {}
    struct = ""
    for line in content:
        if line.startswith("struct "):
            struct, known = line.split()[1], {}
        stripped = line.strip()
        if (found := _NUMBER.fullmatch(stripped)) and found["value"] not in ("true", "false"):
            value = found["value"]
            if "::" not in value:
                known[found["name"]] = number = integer(value, known)
                if number < 0 and found["kind"] == "unsigned":
                    continue  # what hls4ml has no value for, and nothing reads
                value = str(number)
            yield f"    static const {found['kind']} {found['name']} = {value};"
        elif found := _PIXELS.fullmatch(stripped):
            word, size = integer(found["word"], known), integer(found["size"], known)
            pixels[struct] = f"const ap_uint<{word}> {struct}::{found['name']}[{size}] = "
            yield f"    static const ap_uint<{word}> {found['name']}[{size}];"
        elif found := _OUTSIDE.match(line):
            yield f"{pixels[found['struct']]}{{0}};"
        else:
            yield line


def _values(code: str) -> list[str]:
    """Lines of a file of weights: decimal numbers with a point."""
    found = _TABLE.search(code)
    if not found:
        raise RuntimeError("hls4ml wrote a table of another form")
    numbers = [float(text) + 0.0 for text in found["values"].split(",")]
    texts = (np.format_float_positional(number, trim="0") for number in numbers)
    return [f"{found['head']}{{{', '.join(texts)}}};"]


_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    **{ast.Mult: operator.mul, ast.Add: operator.add, ast.Sub: operator.sub},
    ast.Div: operator.floordiv,
}


def integer(expression: str | ast.expr, known: Mapping[str, int]) -> int:
    """The value of a C++ expression of hls4ml: sums, products, quotients, names of integers."""
    match ast.parse(expression, mode="eval").body if isinstance(expression, str) else expression:
        case ast.Constant(value=int(value)):
            return value
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -integer(operand, known)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _OPERATIONS[type(op)](integer(left, known), integer(right, known))
        case ast.Call(func=ast.Name(id="DIV_ROUNDUP"), args=[over, under]):
            return -(-integer(over, known) // integer(under, known))
        case unknown:
            raise RuntimeError(f"hls4ml wrote a constant of another form: {ast.unparse(unknown)}")
