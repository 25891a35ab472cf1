"""Command-line options of a pydantic model's fields, whose descriptions, defaults and ranges stand there alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from models.errors import UserError

if TYPE_CHECKING:
    from typer.models import OptionInfo


def field_option(model: type[BaseModel], field: str, *names: str) -> OptionInfo:
    """A typer option for a model's field: its help is the field's description and range.

    The range is not checked here but by the model (see `first_problem`). `names` are the option's if it has others
    than the field's. Raises KeyError for a field that the model has not.
    """
    info = model.model_fields[field]
    described = " ".join(text for text in (info.description, _range_text(info)) if text)
    found: OptionInfo = typer.Option(*names, help=described, show_default=info.default is not None)
    return found


def join_names(names: Sequence[str]) -> str:
    """Names as one option's text."""
    return ",".join(names)


def split_names(text: str) -> tuple[str, ...]:
    """An option's text as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def options_error(error: ValidationError, names: Mapping[str, str] | None = None) -> UserError:
    """The first thing that is wrong with options, by the option's name: the field's, or what `names` calls it."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = next((str(part) for part in reversed(first["loc"]) if isinstance(part, str)), "")
    name = (names or {}).get(name, name)
    text = first["msg"].removeprefix("Value error, ")
    return UserError(f"--{name.replace('_', '-')}: {text}" if name else text)


def _range_text(info: FieldInfo) -> str:
    whole = info.annotation in (int, int | None)
    limits = [limit for limit in info.metadata if isinstance(limit, Ge | Gt | Le | Lt)]
    texts: list[str] = []
    for limit in limits:
        match limit:
            case Ge(ge):
                texts.append(f"at least {ge}")
            case Gt(gt):
                texts.append(f"at least {int(str(gt)) + 1}" if whole else f"above {gt}")
            case Le(le):
                texts.append(f"at most {le}")
            case Lt(lt):
                texts.append(f"below {lt}")
    return f"({', '.join(texts)})" if texts else ""
