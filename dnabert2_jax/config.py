"""Settings from TOML files and from the command line.

In: a packaged name (`tiny`) or a TOML file, and overrides such as `--training.steps 100`.
Out: frozen settings of the kind asked for, checked.
"""

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from dnabert2_jax.errors import UserError
from dnabert2_jax.files import atomic_file
from dnabert2_jax.settings import FinetuneSettings, PretrainSettings

type Settings = PretrainSettings | FinetuneSettings

_COMMAND_LINE = "command line"
_FOLDERS = {PretrainSettings: "pretrain", FinetuneSettings: "finetune"}


class DocumentedSetting(NamedTuple):
    """A setting.

    Attributes:
      name: such as `training.steps`.
      default: where a configuration says nothing.
      type: with its bounds, as annotated.
      meaning: what it is for.
    """

    name: str
    default: Any
    type: Any
    meaning: str


def load_settings[S: Settings](kind: type[S], source: str, overrides: Sequence[str] = ()) -> S:
    """Reads a configuration and applies overrides from the command line.

    Args:
      kind: the settings of what; keys that are not given keep its defaults.
      source: a TOML file, or the name of a packaged configuration such as `tiny`.
      overrides: words such as `--training.steps 100` or `--training.steps=100`.

    Raises:
      UserError: no such configuration; an unknown key (the nearest one that exists is named), or a value of
        the wrong type or out of range.

    Examples:
      >>> load_settings(PretrainSettings, "tiny", ["--training.steps", "100"]).training.steps
      100
      >>> load_settings(PretrainSettings, "tiny", ["--mesh.fdsp", "8"])
      Traceback (most recent call last):
      dnabert2_jax.errors.UserError: command line: there is no setting mesh.fdsp; did you mean mesh.fsdp?
    """
    path = _find_config(kind, source)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not TOML: {error}") from error
    values = msgspec.to_builtins(kind())
    for section, content in given.items():
        if not isinstance(content, dict):
            raise UserError(f"{path}: {section} stands outside of a section such as [training]")
        for key, value in content.items():
            values[section][key] = _convert(value, f"{section}.{key}", kind, str(path), strict=True)
        if section not in values:
            raise UserError(f"{path}: there is no section [{section}]; the sections are {', '.join(values)}")
    for name, text in _pair_overrides(kind, overrides):
        section, key = name.split(".")
        value = text.split(",") if _takes_several(_setting_type(kind, name, "")) else text
        values[section][key] = _convert(value, name, kind, _COMMAND_LINE, strict=False)
    settings = msgspec.convert(values, kind)
    for name, value in _flat(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}: {name} is {value}; it must be a finite number")
    settings.check(str(path))
    return settings


def write_settings(settings: Settings, path: Path) -> None:
    """Writes the settings, every key given, as TOML that `load_settings` reads back."""
    lines = []
    for section, content in msgspec.to_builtins(settings).items():
        # The values are numbers, booleans and plain words, which JSON and TOML spell alike.
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in content.items()), ""]
    with atomic_file(path, "w") as file:
        file.write("\n".join(lines))


def differences(before: Settings, after: Settings) -> list[str]:
    """The names of the settings in which two runs of one kind differ."""
    old, new = _flat(before), _flat(after)
    return [name for name in old if old[name] != new[name]]


def documented_settings(kind: type[Settings]) -> Iterator[DocumentedSetting]:
    """Every setting of a kind of run, section by section."""
    for name, default in _flat(kind()).items():
        hint = _setting_type(kind, name, "")
        meaning = next(part.description for part in get_args(hint) if isinstance(part, Meta))
        yield DocumentedSetting(name, default, hint, meaning or "")


def describe_settings(kind: type[Settings]) -> str:
    """One line per setting: its name, its default and what it is for."""
    lines = []
    for setting in documented_settings(kind):
        default = setting.default
        shown = ",".join(default) if isinstance(default, (list, tuple)) else default
        lines.append(f"  --{setting.name} {shown}".ljust(42) + f" {setting.meaning}")
    return "\n".join(lines)


def packaged_configs(kind: type[Settings]) -> list[str]:
    """The names of the configurations that come with the package."""
    return sorted(path.stem for path in _config_folder(kind).glob("*.toml"))


def _config_folder(kind: type[Settings]) -> Path:
    # An installed wheel carries the folder inside the package; a checkout has it beside the package.
    package = Path(__file__).parent
    root = package if (package / "configs").is_dir() else package.parent
    return root / "configs" / _FOLDERS[kind]


def _find_config(kind: type[Settings], source: str) -> Path:
    if source in packaged_configs(kind):
        return _config_folder(kind) / f"{source}.toml"
    path = Path(source)
    if path.is_file():
        return path
    raise UserError(
        f"{source}: no such configuration; give a TOML file or one of {', '.join(packaged_configs(kind))}"
    )


def _pair_overrides(kind: type[Settings], words: Sequence[str]) -> Iterator[tuple[str, str]]:
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            raise UserError(
                f"{_COMMAND_LINE}: {word!r} is not a setting; settings look like --training.seed 1"
            )
        name, equals, value = word.removeprefix("--").partition("=")
        _setting_type(kind, name, _COMMAND_LINE)
        if not equals:
            if not remaining:
                raise UserError(f"{_COMMAND_LINE}: --{name} needs a value")
            value = remaining.pop(0)
        yield name, value


def _setting_type(kind: type[Settings], name: str, source: str) -> Any:
    known = _flat(kind())
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        sections = ", ".join(kind.__struct_fields__)
        hint = f"did you mean {nearest[0]}?" if nearest else f"the sections are {sections}"
        raise UserError(f"{source}: there is no setting {name}; {hint}")
    section, key = name.split(".")
    return get_type_hints(get_type_hints(kind)[section], include_extras=True)[key]


def _convert(value: Any, name: str, kind: type[Settings], source: str, *, strict: bool) -> Any:
    setting_type = _setting_type(kind, name, source)
    try:
        return msgspec.convert(value, setting_type, strict=strict)
    except msgspec.ValidationError as error:
        choices = [choice for part in _parts(setting_type) for choice in get_args(part)]
        hint = f"; choose {', '.join(map(str, choices))}" if choices else ""
        raise UserError(f"{source}: {name} is {value!r}: {error}{hint}") from error


def _parts(hint: Any) -> list[Any]:
    """The literal types in a type hint, whatever it wraps them in."""
    hint = getattr(hint, "__value__", hint)
    if get_origin(hint) is Literal:
        return [hint]
    return [part for inner in get_args(hint) for part in _parts(inner)]


def _takes_several(hint: Any) -> bool:
    """Whether a setting is a list, which the command line gives with commas between."""
    return get_origin(hint) is tuple or any(_takes_several(part) for part in get_args(hint))


def _flat(settings: Settings) -> dict[str, Any]:
    return {
        f"{section}.{key}": value
        for section, content in msgspec.to_builtins(settings).items()
        for key, value in content.items()
    }
