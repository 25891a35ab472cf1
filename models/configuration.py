"""Options of a command from a TOML file and from the environment, below those of its command line.

    command line  >  AFFECT_... variables  >  [the command] in the file  >  [shared] in the file  >  defaults

An option `--latency-target` is `latency_target` or `latency-target` in the file and `AFFECT_LATENCY_TARGET` in the
environment. A command has all of this by `cls=ConfiguredCommand`.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from models.console import program_name
from models.credentials import HIDDEN, hide_passwords, is_secret
from models.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PREFIX: Final = "AFFECT_"
SHARED: Final = "shared"
NO_FILE: Final = "none"

NO_RUN: Final = frozenset({"help", "install_completion", "show_completion", "list_devices"})
"""What asks for something else than a run: it is answered though the file is wrong."""

COMMAND_LINE_ONLY: Final = NO_RUN | {"config", "show_config"}
"""And what says where to read."""

_NEAR: Final = 0.8
"""How alike a name must be to an option of this command, of 1, to be taken for that one, misspelt."""


@dataclass(frozen=True)
class Setting:
    """One option's value, and where it is from, in words."""

    value: Any
    origin: str


ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"Read options from this TOML file, or {NO_FILE}; by default {PREFIX}CONFIG's, or the one in this "
        f"user's settings folder. Each may also be a variable, as in {PREFIX}BROKER=mqtt://hub.",
    ),
]
ShowConfigOption = Annotated[
    bool,
    typer.Option(
        "--show-config",
        help="Print the options in force and where each is from, without secrets, and exit.",
    ),
]


class ConfiguredCommand(TyperCommand):
    """A command whose options may also stand in a file and in the environment.

    Its function declares `config: ConfigOption` and `show_config: ShowConfigOption`, which are heeded here. Of
    `exclusive` options, of which a run takes one, the first layer that gives any decides: a camera in the file does
    not stand in the way of a recording on the command line.
    """

    exclusive: ClassVar[frozenset[str]] = frozenset()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The command line over what is configured. Raises UserError for a file or a variable that cannot be used."""
        if ctx.resilient_parsing or self._asks_for_no_run(
            ctx, args
        ):  # the former to complete a line with the tab key
            return super().parse_args(ctx, args)
        given = self._given(ctx, args)
        configured = self._configured(ctx, given)
        ctx.default_map = {name: setting.value for name, setting in configured.items()}
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.params.get("show_config"):
            typer.echo(self._describe(ctx, configured), nl=False)
            ctx.exit()
        return rest

    def _asks_for_no_run(self, ctx: Any, args: list[str]) -> bool:
        return any(not set(args).isdisjoint(p.opts) for p in self.get_params(ctx) if _key(p) in NO_RUN)

    def _given(self, ctx: Any, args: list[str]) -> dict[str, Any]:
        """What the command line itself says, by parameter."""
        probe = self.context_class(self, info_name=ctx.info_name, parent=ctx.parent, resilient_parsing=True)
        super().parse_args(probe, list(args))
        return {name: value for name, value in probe.params.items() if _is_from_command_line(probe, name)}

    def _configured(self, ctx: Any, given: Mapping[str, Any]) -> dict[str, Setting]:
        """What file and environment say, by parameter, where the command line does not decide."""
        command = program_name()
        keys = {_key(p): p.name for p in self.params if _key(p) not in COMMAND_LINE_ONLY}
        file = find_file(given.get("config"))
        fields = _fields(self.callback, self.params)
        layers = [
            _from_environment(fields),
            *(_from_file(file, command, keys) if file is not None else ()),
        ]
        merged: dict[str, Setting] = {}
        decided = bool(self.exclusive & given.keys())
        for layer in layers:
            own = {keys[key]: setting for key, setting in _checked(fields, layer).items()}
            for name, setting in own.items():
                if not (decided and name in self.exclusive):
                    merged.setdefault(name, setting)
            decided = decided or any(own[name].value for name in self.exclusive & own.keys())
        return merged

    def _describe(self, ctx: Any, configured: Mapping[str, Setting]) -> str:
        """All options in force as TOML: what is set with where it is from, what is not as a comment."""
        lines = [f"[{program_name()}]"]
        for param in self.params:
            key = _key(param)
            if key in COMMAND_LINE_ONLY:
                continue
            value = ctx.params[param.name]
            if _is_from_command_line(ctx, param.name):
                origin = "command line"
            else:
                origin = configured[param.name].origin if param.name in configured else "default"
            shown = "" if value is None or value in ([], ()) else _as_toml(key, value)
            lines.append(f"{key} = {shown}  # {origin}" if shown else f"# {key} =  # not set")
        return "\n".join(lines) + "\n"


def find_file(named: str | None = None) -> Path | None:
    """The file to read: the one named, `AFFECT_CONFIG`'s, or this user's where there is one; None for `none`.

    Raises UserError where a file that was asked for is not there.
    """
    import platformdirs

    asked = named or os.environ.get(f"{PREFIX}CONFIG") or None
    if asked == NO_FILE:
        return None
    if asked is None:
        usual = Path(platformdirs.user_config_dir("affectstream", appauthor=False)) / "config.toml"
        return usual if usual.is_file() else None
    if not Path(asked).is_file():
        raise UserError(
            f"there is no configuration file {asked}: name one that is there, or `--config {NO_FILE}`"
        )
    return Path(asked)


def hide_secrets(key: str, text: str) -> str:
    """The text of an option as it may be shown: without passwords, and an address without what follows a `?`."""
    return HIDDEN if is_secret(key) else hide_passwords(text)


def _from_file(file: Path, command: str, keys: Mapping[str, object]) -> list[dict[str, Setting]]:
    """The command's own table, and what is shared that concerns it. Raises UserError for what cannot be meant."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(
            f"cannot read the configuration file {file} ({reason}): mend it, or name another"
        ) from None
    tables = {*_commands(), command, SHARED}
    for name, table in document.items():
        if name not in tables or not isinstance(table, Mapping):
            raise UserError(
                f"{file} has '{name}' at its top, which is no command's table"
                f"{_nearest(name, tables)}: write options under [{command}] or [{SHARED}]"
            )
    own, shared = (_normalised(document.get(name, {})) for name in (command, SHARED))
    for key in own:
        if key not in keys:
            raise UserError(
                f"[{command}] in {file} has '{key}', which is no option{_nearest(key, keys)}: "
                f"`{command} --help` lists them"
            )
    for key in shared.keys() - keys.keys():
        # An option of other commands, unless it is one of this command's but for a letter or two.
        if nearest := _nearest(key, keys, _NEAR):
            raise UserError(
                f"[{SHARED}] in {file} has '{key}'{nearest}: `{command} --help` lists all options"
            )
    return [
        {key: Setting(value, f"{file} [{table}]") for key, value in values.items() if key in keys}
        for table, values in ((command, own), (SHARED, shared))
    ]


def _normalised(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("-", "_"): value for key, value in table.items()}


def _commands() -> set[str]:
    """This package's console scripts."""
    return {
        script.name
        for script in entry_points(group="console_scripts")
        if script.value.partition(".")[0] in ("models", "stream", "offline")
    }


def _nearest(name: str, known: Iterable[str], least_alike: float = 0.6) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=least_alike)
    return f" (is '{found[0]}' meant?)" if found else ""


def _from_environment(fields: Mapping[str, Any]) -> dict[str, Setting]:
    from pydantic import create_model
    from pydantic_settings import BaseSettings, EnvSettingsSource

    settings = create_model("Settings", __base__=BaseSettings, **fields)
    found = EnvSettingsSource(settings, env_ignore_empty=True)()
    lists = {field.alias for wanted, field in fields.values() if _is_list(wanted)}
    return {
        _key_of_variable(name): Setting(_split(value) if name in lists else value, name)
        for name, value in found.items()
    }


def _fields(callback: Callable[..., Any] | None, params: Sequence[Any]) -> dict[str, Any]:
    """A pydantic field for each option, by the types of the command's own function and the bounds of its options."""
    from pydantic import BeforeValidator, Field
    from pydantic_settings import NoDecode

    hints = get_type_hints(callback, include_extras=True) if callback is not None else {}
    fields: dict[str, Any] = {}
    for param in params:
        if _key(param) in COMMAND_LINE_ONLY or param.name not in hints:
            continue
        kind, option = get_args(hints[param.name])[:2]
        least, most = getattr(option, "min", None), getattr(option, "max", None)
        variable = f"{PREFIX}{_key(param).upper()}"
        # Named apart from what pydantic's own classes are called by, such as `json`.
        wanted = Annotated[kind | None, NoDecode, BeforeValidator(_listed)] if _is_list(kind) else kind | None
        fields[f"option_{_key(param)}"] = (wanted, Field(None, alias=variable, ge=least, le=most))
    return fields


def _checked(fields: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """The settings as their options take them. Raises UserError for the first that does not fit, and where it is."""
    from pydantic import ConfigDict, ValidationError, create_model

    model = create_model("Options", __config__=ConfigDict(coerce_numbers_to_str=True), **fields)
    try:
        checked = model.model_validate({f"{PREFIX}{k.upper()}": s.value for k, s in settings.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = _key_of_variable(str(first["loc"][0]))
        value = hide_secrets(key, repr(first["input"]))
        raise UserError(
            f"{key} = {value} from {settings[key].origin} cannot be used: {first['msg']}"
        ) from None
    return {key: Setting(getattr(checked, f"option_{key}"), s.origin) for key, s in settings.items()}


def _is_list(kind: Any) -> bool:
    """Whether an option may be given more than once: `list[...]`, that or None, either of them annotated."""
    return get_origin(kind) is list or any(_is_list(part) for part in get_args(kind))


def _split(text: str) -> list[str]:
    """The values of a variable whose option may be given more than once: separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(value: Any) -> Any:
    """One value of a file where a list could be; a text is whole, for names and filter graphs have commas."""
    return [value] if isinstance(value, str | int | float) else value


def _key_of_variable(name: str) -> str:
    return name.removeprefix(PREFIX).lower()


def _key(param: Any) -> str:
    """An option's name in file and environment: its long form without the dashes."""
    longest: str = max(param.opts, key=len)
    return longest.lstrip("-").replace("-", "_")


def _is_from_command_line(ctx: Any, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _as_toml(key: str, value: Any) -> str:
    """A scalar as TOML writes it; empty where the option is not used."""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_as_toml(key, each) for each in value)}]"
    return json.dumps(hide_secrets(key, str(value)), ensure_ascii=False)
