"""The documentation against the program: links lead somewhere, commands parse, examples run, it builds."""

import argparse
import ast
import contextlib
import doctest
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from markdown.extensions.toc import slugify

from dnabert2_jax.cli.arguments import Parser, split_settings
from dnabert2_jax.cli.main import main
from dnabert2_jax.config import documented_settings, load_settings
from dnabert2_jax.settings import FinetuneSettings, PretrainSettings

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`]+`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<'END'\n.*?^END$", re.MULTILINE | re.DOTALL)
_AFTER_A_COMMAND = {"|", ";", "&&", "&", ">", "…"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class ParsedError(Exception):
    """A command line was understood; what follows would run it."""


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """The fenced blocks of a page that are of these languages."""
    for _, language, content in _FENCED.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield content


def prose(page: Path) -> str:
    """A page without what stands in fenced blocks."""
    return _FENCED.sub("", page.read_text(encoding="utf-8"))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words behind `dnabert2` of each command that a page tells to type."""
    for block in blocks(page, "", "bash"):
        text = _HERE_DOCUMENT.sub("", block).replace("\\\n", " ")
        for line in text.splitlines():
            if "dnabert2 " not in line:
                continue
            words = shlex.split(line, comments=True)
            starts = [place for place, word in enumerate(words) if Path(word).name == "dnabert2"]
            if starts:
                behind = words[starts[0] + 1 :]
                end = next((at for at, word in enumerate(behind) if word in _AFTER_A_COMMAND), len(behind))
                yield behind[:end]


@each_page
def test_links_lead_somewhere(page):
    text = _INLINE_CODE.sub("", prose(page))
    for target in _LINK.findall(text):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https", target
            continue
        linked = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert linked.is_file(), target
        if parts.fragment:
            anchors = {slugify(heading.replace("`", ""), "-") for heading in _HEADING.findall(prose(linked))}
            assert parts.fragment in anchors, target


def test_every_page_is_in_the_navigation():
    def pages(entry) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(part)

    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@each_page
def test_commands_that_are_shown_parse(page, monkeypatch):
    def parse_then_stop(self, words):
        raise ParsedError(argparse.ArgumentParser.parse_args(self, words))

    monkeypatch.setattr(Parser, "parse_args", parse_then_stop)
    for words in command_lines(page):
        with pytest.raises(ParsedError) as parsed:
            _run(words)
        _check_settings(words, parsed.value.args[0])


def test_commands_are_found():
    commands = [words for page in PAGES for words in command_lines(page)]
    assert ["gue", "download", "--output", "gue"] in commands
    assert len(commands) > 60


def _run(words: list[str]) -> None:
    """Runs a command as `main` does, but lets what it raises through."""
    importlib.import_module(f"dnabert2_jax.cli.{words[0]}").main(words[1:])


def _check_settings(words: list[str], arguments: argparse.Namespace) -> None:
    settings = split_settings(words)[1]
    if not settings:
        return
    if words[0] in ("finetune", "gue"):
        load_settings(FinetuneSettings, "lora" if arguments.lora else "paper", settings)
    else:
        load_settings(PretrainSettings, getattr(arguments, "config", "continue_gue"), settings)


@each_page
def test_commands_and_options_in_the_text_exist(page, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    for code in _INLINE_CODE.findall(prose(page)):
        words = code.strip("`").replace("\n", " ").split()
        if words[0] != "dnabert2" or len(words) == 1 or not words[1].isalpha() or not words[1].islower():
            continue
        names = [word for word in words[1:3] if re.fullmatch("[a-z][a-z-]*", word)]
        if len(names) == 2 and names[0] not in ("tokenizer", "corpus", "gue", "experiment"):
            names.pop()  # a configuration or a file
        with contextlib.suppress(SystemExit):
            _run([*names, "--help"])
        told = capsys.readouterr().out
        for word in words[1:]:
            if word.startswith("--") and word != "--help":
                assert word.partition("=")[0] in told, code


@each_page
def test_python_that_is_shown_is_python(page):
    for block in blocks(page, "python"):
        if ">>>" in block:
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dnabert2_jax"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), name.name


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if ">>>" in page.read_text(encoding="utf-8")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_examples_run(page):
    found = doctest.testfile(str(page), module_relative=False)
    assert found.attempted
    assert not found.failed


def test_every_option_of_a_setting_has_words_for_it():
    for kind in (PretrainSettings, FinetuneSettings):
        assert all(setting.meaning for setting in documented_settings(kind))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site; a warning ends the build."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Page(HTMLParser):
    """What a built page loads, links to, and can be linked to at."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links.append(given.get("href", ""))
        else:
            self.loads += [given[name] for name in ("src", "href", "srcset", "data") if name in given]


def test_site_loads_nothing_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for target in Page(path).loads:
            assert not urlsplit(target).netloc, (path.name, target)
            # The page about a page that is not there is shown anywhere, and counts from the top.
            origin = site if target.startswith("/") else path.parent
            assert (origin / urlsplit(target).path.lstrip("/")).exists(), target
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_links_of_the_site_lead_somewhere(site):
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or not link:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), (path.name, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, (path.name, link)


def test_reference_has_every_command_and_setting(site, capsys):
    assert main(["--help"]) == 0
    commands = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert len(commands) > 10
    for command in [*commands, "gue run", "corpus build", "tokenizer inspect", "experiment cost"]:
        assert f"usage: dnabert2 {command}" in text
    text = (site / "reference" / "configuration.html").read_text(encoding="utf-8")
    for kind in (PretrainSettings, FinetuneSettings):
        for setting in documented_settings(kind):
            assert f"<code>{setting.name.partition('.')[2]}</code>" in text
