"""What MkDocs calls while it builds the site: it fills pages with what the program says of itself.

In: a page with a mark such as `<!-- commands -->`. Out: the page with every command's --help, or with every
setting of every kind of run.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dnabert2_jax.cli.main import main
from dnabert2_jax.config import DocumentedSetting, documented_settings, packaged_configs
from dnabert2_jax.settings import FinetuneSettings, PretrainSettings

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_COMMANDS = re.compile(r"^  ([a-z-]+)  ", re.MULTILINE)
_SUBCOMMANDS = re.compile(r"\{([a-z,-]+)\} \.\.\.")


def on_page_markdown(markdown: str, **_) -> str:
    """Puts what is generated in the place of its mark."""
    for mark, generate in _GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, generate())
    return markdown


def all_commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, and of every subcommand after its command."""
    for command in _COMMANDS.findall(help_text()):
        yield (command,)
        text = help_text(command)
        listed = _SUBCOMMANDS.search(text)
        own = text.partition("\ncommands:\n")[2].partition("\n\n")[0]
        for subcommand in listed[1].split(",") if listed else _COMMANDS.findall(own + "\n"):
            yield command, subcommand


def help_text(*words: str) -> str:
    """What a command prints with --help."""
    # Otherwise it depends on the terminal of whoever builds.
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue().strip()


def _command_pages() -> str:
    parts = []
    for words in all_commands():
        # Settings have a page of their own.
        text = help_text(*words).partition("\n\nsettings and their defaults")[0]
        parts.append(f"{'#' * (len(words) + 1)} dnabert2 {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _setting_tables(kind: type[PretrainSettings] | type[FinetuneSettings]) -> str:
    parts: list[str] = []
    section = None
    for setting in documented_settings(kind):
        name, _, key = setting.name.partition(".")
        if name != section:
            section = name
            parts.append(f"\n### [{section}] {{ #{kind.__name__.lower()}-{section} }}\n")
            parts.append("| key | default | may be | meaning |\n|---|---|---|---|")
        cells = f"`{key}`", f"`{_shown(setting.default)}`", _allowed(setting), setting.meaning
        parts.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def _shown(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _allowed(setting: DocumentedSetting) -> str:
    return _describe(msgspec.inspect.type_info(setting.type))


def _describe(kind: msgspec.inspect.Type) -> str:
    bounds = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return _describe(inner)
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.UnionType(types=types):
            return ", or ".join(_describe(inner) for inner in types)
        case msgspec.inspect.VarTupleType(item_type=item) | msgspec.inspect.ListType(item_type=item):
            return f"list of {_describe(item)}"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            name = "whole number" if isinstance(kind, msgspec.inspect.IntType) else "number"
            limits = [
                text.format(getattr(kind, bound))
                for bound, text in bounds.items()
                if getattr(kind, bound) is not None
            ]
            return " ".join([name, ", ".join(limits)]).strip()
        case msgspec.inspect.BoolType():
            return "`true`, `false`"
        case msgspec.inspect.StrType():
            return "text"
    raise TypeError(f"no words for a setting of type {kind}")


def _configurations(folder: str, kind: type[PretrainSettings] | type[FinetuneSettings]) -> str:
    parts = []
    for name in packaged_configs(kind):
        lines = (_CONFIGS / folder / f"{name}.toml").read_text(encoding="utf-8").splitlines()
        comment = [line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#")]
        parts.append(f"**`{name}`**\n\n```text\n" + "\n".join(comment) + "\n```\n")
    return "\n".join(parts)


_GENERATED = {
    "<!-- commands -->": _command_pages,
    "<!-- pre-training settings -->": lambda: _setting_tables(PretrainSettings),
    "<!-- fine-tuning settings -->": lambda: _setting_tables(FinetuneSettings),
    "<!-- pre-training configurations -->": lambda: _configurations("pretrain", PretrainSettings),
    "<!-- fine-tuning configurations -->": lambda: _configurations("finetune", FinetuneSettings),
}
