"""The list of models of a study file, edited in its text: what a person wrote around it stays, byte for byte.

Dumping the parsed file would lose comments, or at best lay the rest of the file out anew; so the places are taken from
the parser's marks and only they are touched. The new text is checked as a whole before the file is replaced.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ppl_assets.errors import InputError, suggestion
from ppl_assets.study.loading import EMBEDDED, load_study, parse_study
from ppl_assets.warehouse import replace_file

_INDENT = "  "


def add_model(study: str, model: dict[str, Any]) -> None:
    """Append a model to the list of a study file.

    Args:
        study: the file's path.
        model: fields of `study.schema.Model`; None leaves a field out.

    Raises:
        InputError: `study` is no file of one's own, the slug is taken, or a field is not valid.
    """
    stated = {name: value for name, value in model.items() if value is not None}
    _replace(study, lambda text: _with_item(text, _flow(stated)))


def retire_model(study: str, slug: str) -> None:
    """Take a model off the list of a study file.

    Raises:
        InputError: `study` is no file of one's own, or its list has no such model.
    """
    _replace(study, lambda text: _without_item(text, slug, where=study))


def _replace(study: str, change: Callable[[str], str]) -> None:
    path = Path(study).expanduser()
    if not path.is_file() and study in EMBEDDED:
        raise InputError(
            f"{study!r} is an embedded study and cannot be edited; write one of your own: ppl-assets init DIR"
        )
    load_study(study)
    changed = change(path.read_text(encoding="utf-8"))
    parse_study(changed, where=f"{path}, as it would be", folder=path.absolute().parent)
    replace_file(path, changed)


def _with_item(text: str, item: str) -> str:
    models = _models(text)
    if models is None:
        return f"{text.rstrip()}\n\nmodels:\n{_INDENT}- {item}\n"
    if models.flow_style:
        closing = models.end_mark.index - 1
        return f"{text[:closing].rstrip()}{', ' if models.value else ''}{item}{text[closing:]}"
    lines = text.splitlines(keepends=True)
    dash = lines[models.value[0].start_mark.line].index("-")
    after = _last_line(models.value[-1]) + 1
    before = "".join(lines[:after])
    return f"{before}{'' if before.endswith(chr(10)) else chr(10)}{' ' * dash}- {item}\n{''.join(lines[after:])}"


def _without_item(text: str, slug: str, *, where: str) -> str:
    models = _models(text)
    listed = [_value(item, "slug") for item in models.value] if models else []
    if models is None or slug not in listed:
        raise InputError(
            f"{where}: models lists no {slug!r}{suggestion(slug, listed)}; a model of the zoo leaves with its run, "
            "a checkpoint with its folder, an imported model with its rows"
        )
    at = listed.index(slug)
    item = models.value[at]
    if models.flow_style:
        begin = models.value[at - 1].end_mark.index if at else item.start_mark.index
        end = models.value[1].start_mark.index if at == 0 and len(models.value) > 1 else item.end_mark.index
        return text[:begin] + text[end:]
    lines = text.splitlines(keepends=True)
    last = _last_line(item) + 1
    if len(models.value) == 1:
        key = next(line for line in range(item.start_mark.line, -1, -1) if lines[line].startswith("models"))
        return "".join([*lines[:key], "models: []\n", *lines[last:]])
    return "".join([*lines[: item.start_mark.line], *lines[last:]])


def _models(text: str) -> yaml.SequenceNode | None:
    """The list of models in the file's tree; None where the file has none."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode), "the study was loaded"
    found = [value for key, value in root.value if key.value == "models"]
    return found[0] if found and isinstance(found[0], yaml.SequenceNode) else None


def _value(item: yaml.MappingNode, field: str) -> str:
    return next(value.value for key, value in item.value if key.value == field)


def _last_line(node: yaml.Node) -> int:
    """The line on which a node's own text ends; a block's end mark may lie behind comments that are not its own."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style:
        return max(_last_line(value) for _, value in node.value)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return max(_last_line(value) for value in node.value)
    return node.end_mark.line


def _flow(model: dict[str, Any]) -> str:
    dumped = yaml.safe_dump(model, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return str(dumped).strip()
