"""The README says what the program has: commands, flags, variables, exit codes, rooms."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from datasync_ingest import errors
from datasync_ingest.commands import MODULES
from datasync_ingest.settings import flag_of, setting_fields
from tests.harness import TOP, clean_environment
from tests.isolation import SECRETS_AND_DATABASES

README = (TOP / "README.md").read_text(encoding="utf-8")
PACKAGE = TOP / "datasync_ingest"
ERRORS = {
    name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.IngestError)
}
GENERAL = {"--help", "--version", "--debug", "--json", *(flag_of(entry) for entry in setting_fields())}


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_variable_is_in_the_table_of_the_configuration() -> None:
    named = set(re.findall(r"`([A-Z_]{4,})`", section("Configuration")))
    assert {entry.metadata["variable"] for entry in setting_fields()} | SECRETS_AND_DATABASES <= named


def test_every_command_is_in_the_table_of_commands() -> None:
    scripts = {path.name for path in (TOP / "bin").iterdir() if path.is_file() and not path.suffix}
    assert {f"bin/{name}" for name in scripts} == set(re.findall(r"^\| `(bin/[a-z-]+)", section("Commands"), re.M))


@pytest.mark.parametrize("command", sorted(set(MODULES) - {"psql"}))
def test_every_flag_of_a_command_is_named(command: str) -> None:
    words = [sys.executable, "-m", "datasync_ingest", command, "--help"]
    shown = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"(?<![\w-])--[a-z-]+", shown.split("options:")[1].split("environment,")[0])) - GENERAL
    assert flags
    assert {flag for flag in flags if flag not in section("Commands")} == set()


def test_every_exit_code_is_in_the_table() -> None:
    codes = {one.exit_code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "exit_code")}
    shown = {
        int(code) for code in re.findall(r"\d+", " ".join(re.findall(r"^\| ([\d, ]+) \|", section("Exit codes"), re.M)))
    }
    assert codes | {0, 129, 130, 143} == shown


def endings() -> list[tuple[str, str]]:
    """Class and longest literal part of every sentence that an error of ours is made with."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
                found += [(node.func.id, max(parts, key=len)) for parts in [literal_parts(node.args[0])] if parts]
    return found


def literal_parts(node: ast.expr) -> list[str]:
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    return [value.value.strip() for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def test_every_error_is_made_somewhere_and_every_sentence_is_explained() -> None:
    made = endings()
    parents = {base for error in ERRORS.values() for base in error.__bases__}
    assert {name for name, error in ERRORS.items() if error not in parents} - {"StoppedError"} <= {n for n, _ in made}
    text = section("Troubleshooting")
    assert [(name, sentence) for name, sentence in made if sentence not in text] == []
    assert "Stopped by" in text


def test_every_room_is_in_the_architecture_and_no_other() -> None:
    text = section("Architecture")
    rooms = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    rooms |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    missing = {room for room in rooms if f"`{room}`" not in text}
    assert missing == set()
    for name in re.findall(r"`([a-z_]+\.py)`", text):
        assert list(PACKAGE.rglob(name)) or list((TOP / "tests").rglob(name)), name


@pytest.mark.parametrize("command", MODULES)
def test_a_command_has_a_script_and_an_entry_point(command: str) -> None:
    assert f'bootstrap.run("{command}")' in (TOP / "bin" / command).read_text(encoding="utf-8")
    entry = f"datasync-{command} = datasync_ingest.cli:{command.replace('-', '_')}\n"
    assert entry in (TOP / "setup.cfg").read_text(encoding="utf-8")
