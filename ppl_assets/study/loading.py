"""From YAML to a checked study; what is wrong is told by file, line and field."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ppl_assets.errors import InputError, suggestion
from ppl_assets.study.schema import Model, Study

EMBEDDED = ("demo", "paper")


def load_study(name: str) -> Study:
    """The study in the file `name`, or the embedded study of that name.

    Raises:
        InputError: no such file or study, not UTF-8, not YAML, an unknown key, a wrong type or an inconsistent value;
            the message names file, line and field, what was found and what was expected.
    """
    if name in EMBEDDED and not Path(name).is_file():
        return parse_study(embedded_text(name), where=f"embedded study {name!r}", folder=Path.cwd())
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such study file; expected a YAML file or one of the embedded studies {EMBEDDED}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8; expected a YAML file in UTF-8") from error
    return parse_study(text, where=str(path), folder=path.absolute().parent)


def embedded_text(name: str) -> str:
    """The YAML text of an embedded study."""
    return resources.files("ppl_assets.study").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def parse_study(text: str, *, where: str, folder: Path) -> Study:
    """A study from YAML text; `where` names the text in errors, `folder` is what its relative paths are relative to."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: found {type(content).__name__} at the top, expected a mapping with the key 'name'")
    try:
        # Through JSON, where pydantic's strict mode accepts a list for a tuple and an ISO text for a date.
        study = Study.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        problems = [_sentence(details, where, root) for details in error.errors()]
        raise InputError("\n".join(problems)) from error
    placed = study.model_copy(update={"folder": folder})
    return placed.model_copy(update={"models": (*study.models, *_checkpoints(placed, where))})


def _checkpoints(study: Study, where: str) -> list[Model]:
    """A model for each subfolder of the study's folders of checkpoints."""
    found: list[Model] = []
    for index, stated in enumerate(study.checkpoints):
        folder = study.path(stated.path)
        if not folder.is_dir():
            raise InputError(f"{where}: checkpoints.{index}.path: {folder}: no such folder")
        for subfolder in sorted(path.parent for path in folder.glob("*/config.json")):
            slug = f"{stated.run}-{re.sub(r'[^a-z0-9_-]+', '-', subfolder.name.lower())}"
            common = stated.model_dump(include={"run", "family", "kind", "license", "maker"})
            found.append(Model(slug=slug, source=str(subfolder), **common))
    slugs = [model.slug for model in (*study.models, *found)] + study.zoo_slugs()
    if repeated := sorted({slug for slug in slugs if slugs.count(slug) > 1}):
        raise InputError(f"{where}: checkpoints: found the slug {repeated[0]!r} twice; rename a subfolder or a run")
    return found


def _sentence(details: ErrorDetails, where: str, root: yaml.Node | None) -> str:
    """One validation error as a sentence with line and field."""
    # Pydantic puts the tag of a discriminated union ('jsonl') into the location; the file has no such level.
    location = [part for part in details["loc"] if part not in ("python_packages", "parquet", "jsonl", "huggingface")]
    field = ".".join(str(part) for part in location) or "the study"
    place = f"{where}, line {_line(root, location)}: {field}"
    if details["type"] == "extra_forbidden":
        return f"{place}: unknown key{_nearest_key(location)}"
    if details["type"] == "missing":
        return f"{place}: missing"
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place}: found {details['input']!r}, expected: {message}"


def _line(node: yaml.Node | None, location: list[Any]) -> int:
    """Line (from 1) of the deepest part of `location` that the file holds."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _nearest_key(location: list[Any]) -> str:
    """A suggestion for an unknown key, or the keys that its section has."""
    keys = _section_keys(location)
    return suggestion(str(location[-1]), keys) or f"; expected one of {', '.join(sorted(keys))}"


def _section_keys(location: list[Any]) -> set[str]:
    """Valid keys of the section that holds `location`; of a union of sections, the keys of all."""
    sections: list[type[BaseModel]] = [Study]
    for part in location[:-1]:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [below for field in fields for below in _sections_in(field.annotation)] or sections
    return {name for section in sections for name in section.model_fields} - {"folder"}


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]
