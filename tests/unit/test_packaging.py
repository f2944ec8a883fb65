"""The requirements, the distribution's settings and `.env.example` say the same thing."""

from __future__ import annotations

import configparser
import importlib
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from datasync_ingest.cli import ENTRY_POINTS
from datasync_ingest.settings import setting_fields
from tests.harness import TOP
from tests.isolation import SECRETS_AND_DATABASES, without_user_settings

PROGRAM, CLUSTER, TESTS = FILES = (
    "requirements.txt",
    "datasync_ingest/pools/requirements.txt",
    "tests/requirements.txt",
)
LIBPQ = {"PGHOST", "PGDATABASE", "PGSERVICE"}


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(TOP / "setup.cfg", encoding="utf-8")
    return config


def requirements(text: str) -> list[Requirement]:
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    """Distribution -> version; every line must name exactly one version."""
    found: dict[str, str] = {}
    for requirement in requirements((TOP / name).read_text(encoding="utf-8")):
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


def require_inside(ranges: str, pinned: Mapping[str, str]) -> None:
    for requirement in requirements(ranges):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_pins_lie_inside_the_ranges() -> None:
    config = setup_cfg()
    pinned: dict[str, str] = {}
    for name, ranges in [
        (PROGRAM, config["options"]["install_requires"]),
        (CLUSTER, config["options.extras_require"]["dask"]),
        (TESTS, config["options.extras_require"]["test"]),
    ]:
        pinned.update(pins(name))
        require_inside(ranges, pinned)


def test_no_distribution_is_pinned_twice() -> None:
    names = [distribution for name in FILES for distribution in pins(name)]
    assert sorted(set(names)) == sorted(names)


def test_every_requirement_has_a_range_and_its_reason_with_the_licence_above_it() -> None:
    text = (TOP / "setup.cfg").read_text(encoding="utf-8")
    lines = text.split("install_requires =\n")[1].split("\n\n")[0].splitlines()
    lines += text.split("\ndask =\n")[1].split("\ntest =")[0].splitlines()
    assert len(lines) >= 4
    for reason, requirement in zip(lines[::2], lines[1::2], strict=True):
        assert re.fullmatch(r"    # .{20,}; [A-Z][\w.-]+( (and|with) [\w ]+)?", reason), reason
        assert {one.operator for one in Requirement(requirement.strip()).specifier} == {">=", "<"}, requirement


@pytest.mark.parametrize("name", FILES)
def test_everything_that_a_pinned_distribution_needs_is_pinned_too(name: str) -> None:
    pinned = {
        distribution: version for file in FILES[: FILES.index(name) + 1] for distribution, version in pins(file).items()
    }
    for distribution in pins(name):
        try:
            needed = metadata.requires(distribution) or []
        except metadata.PackageNotFoundError:
            continue  # for another version of Python, or not in this environment
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert pinned.get(canonicalize_name(requirement.name), "none") in requirement.specifier, (
                    f"{distribution} needs {requirement}"
                )


def test_every_console_entry_is_a_command_of_bin() -> None:
    lines = setup_cfg()["options.entry_points"]["console_scripts"].split("\n")
    entries = dict(line.split(" = ") for line in lines if line)
    for name, target in entries.items():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))
        assert (TOP / "bin" / name.replace("datasync-", "")).is_file()
    assert len(entries) == len(ENTRY_POINTS)


def test_every_script_in_bin_can_be_executed_and_is_short() -> None:
    scripts = [path for path in (TOP / "bin").iterdir() if path.is_file() and not path.suffix]
    commands = {"ingest", "export-ids", "psql", "submit", "simulate-api", "test", "bench", "torture"}
    assert {path.name for path in scripts} >= commands
    for path in scripts:
        assert path.stat().st_mode & 0o111 == 0o111, path
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 12, path


def test_the_example_of_env_names_every_variable_and_no_other() -> None:
    names = set(re.findall(r"^#?([A-Z_]+)=", (TOP / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    known = {entry.metadata["variable"] for entry in setting_fields()} | SECRETS_AND_DATABASES | LIBPQ
    assert names == known


def test_the_example_of_env_shows_the_defaults(tmp_path: Path) -> None:
    text = (TOP / ".env.example").read_text(encoding="utf-8")
    for entry in setting_fields():
        shown = re.findall(rf"^#{entry.metadata['variable']}=(.+)$", text, re.MULTILINE)
        default = entry.metadata["shown_default"]
        if not callable(default):  # the cores of this machine
            converted = entry.metadata["convert"](shown[0])
            assert converted == (default.absolute() if isinstance(default, Path) else default), entry.name


def test_tests_do_not_see_what_names_the_users_data() -> None:
    user = {"PGPASSWORD": "x", "DATABASE_URL": "x", "TARGET_API_KEY": "x", "DATA_DIR": "x", "BATCH_SIZE": "1"}
    assert without_user_settings({**user, "HOME": "/home/user"}) == {"HOME": "/home/user"}
