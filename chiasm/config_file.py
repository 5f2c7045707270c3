"""`cluster.yaml` read into a ClusterConfig: every error at once, each with its line, the field, and the cure."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chiasm.arguments import as_list
from chiasm.config import ClusterConfig
from chiasm.config_fields import Described, describe, section_fields, suggestion
from chiasm.config_section import Contradiction

Location = tuple[str | int, ...]
"""The way to a value: names in mappings, positions in lists."""


class ConfigError(ValueError):
    """The configuration cannot be used; the message has one line for each error, with its place and its cure."""


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> ClusterConfig:
    """The configuration in a YAML file, or the default one; `overrides` (dotted name -> value) win over the file.

    Raises:
        ConfigError: unreadable, not YAML, or fields that do not fit.
    """
    source = _Source(path) if path is not None else None
    data = source.data if source is not None else {}
    problems: list[tuple[Location, str]] = source.duplicates() if source is not None else []
    if isinstance(data, dict):
        _override(data, overrides or {})
    try:
        config = ClusterConfig.model_validate(data)
    except ValidationError as error:
        # Pydantic's own type: its list of errors is typed loosely.
        problems += [problem for each in error.errors() for problem in _explain(dict(each))]
    else:
        if not problems:
            return config
    if source is None:
        raise ConfigError("\n".join(text for _, text in problems))
    problems.sort(key=lambda problem: source.mark(problem[0]))
    raise ConfigError("\n".join(f"{source.place(location)} {text}" for location, text in problems))


def _override(data: dict[Any, Any], overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        section, _, key = name.rpartition(".")
        if not section:
            data[key] = value
        elif isinstance(data.get(section), dict | None):
            data[section] = {**(data.get(section) or {}), key: value}


class _Source:
    """A file's content, and where in it each value stands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}. Name a file that you may read.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is no text: {error}. Save it as UTF-8.") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is no text: {error}. Save it without control characters.") from error
        try:
            self._root = loader.get_single_node()
            self.data: Any = {} if self._root is None else loader.construct_document(self._root)
        except yaml.MarkedYAMLError as error:
            raise ConfigError(self._syntax(error)) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} is not YAML that can be read: {error}") from error
        finally:
            loader.dispose()
        if self.data is None:
            self.data = {}

    def _syntax(self, error: yaml.MarkedYAMLError) -> str:
        mark = error.problem_mark or error.context_mark
        place = f"{self._path}:{mark.line + 1}:{mark.column + 1}:" if mark is not None else f"{self._path}:"
        context = f" {error.context}:" if error.context else ""
        if isinstance(error, yaml.constructor.ConstructorError):
            cure = "Write plain texts, numbers, lists and mappings."
        elif "\\t" in str(error.problem):
            cure = "Indent with spaces; YAML takes no tabs."
        else:
            cure = "Look for an unclosed bracket or quote, a missing colon, or a wrong indent there or just above."
        return f"{place} not YAML:{context} {error.problem}. {cure}"

    def duplicates(self) -> list[tuple[Location, str]]:
        """Names that a mapping has twice: YAML's readers take the last one and say nothing."""
        found: list[tuple[Location, str]] = []
        seen: set[int] = set()  # an alias leads to the same node again
        todo: list[tuple[Location, yaml.Node | None]] = [((), self._root)]
        while todo:
            location, node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                todo += [((*location, position), each) for position, each in enumerate(node.value)]
            elif isinstance(node, yaml.MappingNode):
                first: dict[str, int] = {}
                for key, value in node.value:
                    where = (*location, str(key.value))
                    line = key.start_mark.line + 1
                    if key.value in first:
                        found.append(
                            (
                                where,
                                f"{_dotted(where)}: is there twice, in lines {first[key.value]} and {line}. Keep one.",
                            )
                        )
                    first.setdefault(str(key.value), line)
                    todo.append((where, value))
        return found

    def place(self, location: Location) -> str:
        """`mark` the way compilers write it."""
        line, column = self.mark(location)
        return f"{self._path}:{line}:{column}:"

    def mark(self, location: Location) -> tuple[int, int]:
        """Line and column of a value, from 1; of what surrounds it, where the file does not have it."""
        node: yaml.Node | None = self._root
        mark = node.start_mark if node is not None else None
        for step in location:
            if isinstance(node, yaml.MappingNode):
                # The last of equal names, for that is the one whose value counts.
                pair = next(((key, value) for key, value in reversed(node.value) if key.value == str(step)), None)
                if pair is None:
                    break
                mark, node = pair[0].start_mark, pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
                node = node.value[step]
                mark = node.start_mark
            else:
                break
        return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _explain(error: dict[str, Any]) -> Iterator[tuple[Location, str]]:
    """Where and what, for one of pydantic's errors."""
    location: Location = error["loc"]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, Contradiction):
        for field, message in cause.found:
            where = (*location, *field.split("."))
            yield where, f"{_dotted(where)}: {message}"
        return
    if error["type"] in ("extra_forbidden", "invalid_key"):
        section = ".".join(map(str, location[:-1]))
        yield location, f"{_dotted(location)}: there is no such field. {suggestion(section, str(location[-1]))}"
        return
    if not location:
        yield location, "the file must be a mapping of field names to values, e.g. `model: /models/mine`."
        return
    known = _field_at(location)
    # Below a secret field even the names may be secrets; line and column tell which of them is meant.
    named = known.name if known is not None and known.secret else _dotted(location)
    # What a field's own validator has raised says all there is to say.
    message = str(cause) if error["type"] == "value_error" else _misfit(location, known, error)
    yield location, f"{named}: {message}"


def _field_at(location: Location) -> Described | None:
    for depth in (1, 2):
        try:
            return describe(".".join(map(str, location[:depth])))
        except KeyError:
            continue
    return None


def _misfit(location: Location, field: Described | None, error: dict[str, Any]) -> str:
    value = error["input"]
    if field is None:
        name = str(location[0])
        if location == (name,) and name in section_fields(""):
            return f"takes a mapping of {', '.join(section_fields(name))}; not {_shown(value)}."
        return f"{error['msg']}."
    instead = "" if field.secret else f"; not {_shown(value)}"
    return f"takes {field.takes} ({field.description}){instead}.{_hint(error['type'], value, field.secret)}"


def _hint(kind: str, value: Any, secret: bool) -> str:
    """A cure for the slips that YAML invites."""
    if kind == "string_type" and isinstance(value, int | float):
        return " Put it in quotes." if secret else f' Put it in quotes: "{str(value).lower()}".'
    if kind == "list_type" and isinstance(value, str):
        if secret:
            return " Put it in brackets."
        listed = as_list(value)
        return f" Put it in brackets: {listed}." if listed else " Make it a list, with an item for each word."
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return ""
        if math.isfinite(number):
            return f" Write {int(number) if number.is_integer() else number}, without quotes."
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'the text "{reprlib.repr(value)[1:-1]}"'
    if isinstance(value, int | float):
        return f"the number {value}"
    return "a mapping" if isinstance(value, dict) else f"a {type(value).__name__}"


def _dotted(location: Location) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
