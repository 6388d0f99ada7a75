"""What the installed stripe package says of Stripe: every method, its path and its parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import stripe

ROOT = Path(stripe.__file__).parent


@dataclass(frozen=True)
class Method:
    """One method of the SDK."""

    verb: str
    path: str
    parameters: frozenset[str]
    """Every name inside its parameters, such as ``line_items.price_data.unit_amount``."""

    @property
    def endpoint(self) -> str:
        """Verb and path template, as the SDK writes it."""
        return f"{self.verb} {self.path}"


def methods() -> Iterator[Method]:
    """Every method of every service, each once."""
    for file in sorted(ROOT.rglob("*_service.py")):
        tree = ast.parse(file.read_text())
        modules = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module and ".params" in node.module
            for alias in node.names
        }
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                request = _request(function)
                if request is not None:
                    yield Method(*request, _parameters(function, modules))


def _request(function: ast.FunctionDef) -> tuple[str, str] | None:
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr not in {"_request", "_request_stream"}:
            continue
        verb, path = call.args[:2]
        if isinstance(path, ast.Call) and isinstance(path.func, ast.Attribute):
            path = path.func.value
        assert isinstance(verb, ast.Constant)
        assert isinstance(path, ast.Constant)
        return str(verb.value).upper(), str(path.value)
    return None


def _parameters(function: ast.FunctionDef, modules: dict[str, str]) -> frozenset[str]:
    for argument in function.args.args:
        if argument.arg == "params" and argument.annotation is not None:
            for name in _names(argument.annotation):
                if name in modules:
                    return frozenset(_fields(modules[name], name, ()))
    return frozenset()


def _fields(module: str, name: str, within: tuple[str, ...]) -> Iterator[str]:
    classes = _classes(module)
    if name not in classes or len(within) > 6:
        return
    for field, inner in classes[name]:
        yield ".".join((*within, field))
        for kind in inner:
            yield from _fields(module, kind, (*within, field))


@cache
def _classes(module: str) -> dict[str, list[tuple[str, list[str]]]]:
    file = ROOT.parent.joinpath(*module.split(".")).with_suffix(".py")
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = [
                (part.target.id, _names(part.annotation))
                for part in node.body
                if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            target = node.targets[0]
            keys = node.value.args[1] if len(node.value.args) > 1 else None
            if isinstance(target, ast.Name) and isinstance(keys, ast.Dict):
                found[target.id] = [
                    (str(key.value), _names(value))
                    for key, value in zip(keys.keys, keys.values, strict=True)
                    if isinstance(key, ast.Constant)
                ]
    return found


def _names(annotation: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name):
            names.append(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.append(node.value)
    return names
