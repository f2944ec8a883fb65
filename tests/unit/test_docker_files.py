"""docker/ by its own standards: the linter, the schema, the ignore rules, and what its parts must agree on."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import parse_dsn
from ruamel.yaml import YAML

import datasync_ingest
from datasync_ingest.settings import Settings
from datasync_ingest.units import parse_seconds
from tests.harness import TOP
from tests.image.dockerfile import parse
from tests.image.ignoring import IgnoreFile

DOCKER = TOP / "docker"
COMPOSE_FILES = ("compose.yaml", "compose.key-file.yaml", "compose.many.yaml")
PINNED = r"[a-z]+:\d+(\.\d+)+-[a-z-]+@sha256:[0-9a-f]{64}"
AFTER_STOP_GRACE_S = 15  # workers are told to leave, the rest is spooled, the embedded server stops

IGNORE = IgnoreFile((DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8"))
DOCKERFILE = parse((DOCKER / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE: dict[str, Any] = YAML(typ="safe").load(DOCKER / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COMMANDS = ("ingest", "export-ids", "status", "submit")
CLUSTER = ("scheduler", "worker", "cluster-ingest")
DATABASES = ("database", "demo-database")


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    words = [str(hadolint), "--no-color", "--strict-labels", "--failure-threshold=style", str(DOCKER / "Dockerfile")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_compose_files_keep_to_the_schema_of_the_compose_specification() -> None:
    words = ["--builtin-schema", "vendor.compose-spec", *(str(DOCKER / name) for name in COMPOSE_FILES)]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.local",
        ".git/config",
        ".git/objects/00/1234",
        ".venv",
        ".venv-cpython-311-0123456789ab/bin/python",
        ".venv-test-cpython-311-0123456789ab/complete",
        "data/ledger.sqlite3",
        "data/demo/postgres/PG_VERSION",
        "event_ids.txt",
        "event_ids.txt.1234",
        "docker/Dockerfile",
        "docker/compose.yaml",
        "bin/ingest",
        "tests/conftest.py",
        "my-key.txt",
        "build/lib/datasync_ingest/cli.py",
        "datasync_ingest.egg-info/PKG-INFO",
        "datasync_ingest/.env",
        "datasync_ingest/data/ledger.sqlite3",
        "datasync_ingest/event_ids.txt",
        "datasync_ingest/__pycache__/cli.cpython-311.pyc",
        "datasync_ingest/postgres/.env",
        "datasync_ingest/postgres/__pycache__/pages.cpython-311.pyc",
    ],
)
def test_what_is_nobodys_business_never_enters_an_image(path: str) -> None:
    assert IGNORE.leaves_out(path)


def test_the_sources_and_what_builds_them_enter_an_image() -> None:
    package = [path.relative_to(TOP).as_posix() for path in (TOP / "datasync_ingest").rglob("*")]
    sources = [path for path in package if path.endswith((".py", ".sql", "LICENSE", "py.typed"))]
    assert len(sources) > 50
    wanted = {"requirements.txt", "setup.py", "setup.cfg", "README.md", *sources}
    assert {path for path in wanted if IGNORE.leaves_out(path)} == set()


@pytest.mark.parametrize(
    ("patterns", "path", "left_out"),
    [
        # the examples of https://docs.docker.com/build/concepts/context/#dockerignore-files, and Docker's own tests
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "temporary.txt", False),
        ("*/*/temp*", "somedir/subdir/temporary.txt", True),
        ("temp?", "tempa", True),
        ("temp?", "temp/", False),
        ("temp?", "tempab", False),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("**/*.go", "deep/down/main.go", True),
        ("**/*.go", "main.go", True),
        ("**/foo/bar", "a/b/foo/bar", True),
        ("**/foo/bar", "foo/bar", True),
        ("a/**", "a/b/c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("/build/", "build/lib/x.py", True),
        ("build", "src/build", False),
        ("# a comment\n  \n./build", "build", True),
        ("*\n!src", "src/a/b.py", False),
        ("*\n!src\n**/*.pyc", "src/a/b.pyc", True),
        ("[a-c].txt", "b.txt", True),
        ("\\*.txt", "b.txt", False),
        ("dir.name", "dirxname", False),
    ],
)
def test_ignore_patterns_mean_here_what_they_mean_to_docker(patterns: str, path: str, left_out: bool) -> None:
    assert IgnoreFile(patterns).leaves_out(path.rstrip("/")) == left_out or path.endswith("/")


def test_every_image_from_elsewhere_is_pinned_by_version_and_digest() -> None:
    bases = {stage.base for stage in DOCKERFILE.stages} | {SERVICES[name]["image"] for name in DATABASES}
    assert all(re.fullmatch(PINNED, base) for base in bases), bases
    assert len({stage.base for stage in DOCKERFILE.stages}) == 1


def test_what_builds_the_package_has_the_version_that_the_tests_have() -> None:
    (argument,) = re.findall(r"^ARG SETUPTOOLS=(.+)$", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert f"setuptools=={argument}" in (TOP / "tests/requirements.txt").read_text(encoding="utf-8").splitlines()


def test_the_image_is_built_here_under_the_version_of_the_sources() -> None:
    own = [service for name, service in SERVICES.items() if name not in DATABASES]
    for name in set(SERVICES) - set(DATABASES):
        tag = "-dask" if name in CLUSTER else ""
        assert SERVICES[name]["image"] == f"datasync-ingest:{datasync_ingest.__version__}{tag}"
        assert SERVICES[name]["build"].get("args") == ({"ALSO": "dask.txt"} if name in CLUSTER else None)
    assert {service["pull_policy"] for service in own} == {"never"}
    for service in own:
        assert (DOCKER / service["build"]["context"]).resolve() == TOP
        assert (TOP / service["build"]["dockerfile"]).is_file()


def test_the_image_runs_as_a_user_who_is_not_root_and_names_its_programs_directly() -> None:
    last = DOCKERFILE.stages[-1]
    assert last.last("USER").text == "${UID}:${GID}"
    assert [one.text for one in last.instructions if one.name == "ARG"] == ["UID=1000", "GID=1000"]
    assert last.last("ENTRYPOINT").words == ["datasync-ingest"]
    assert last.last("HEALTHCHECK").text.startswith("CMD [")


def test_docker_waits_for_the_ordered_stop_before_it_kills() -> None:
    assert DOCKERFILE.stages[-1].last("STOPSIGNAL").text == "SIGTERM"
    for name in (*COMMANDS, *CLUSTER, "demo"):
        assert parse_seconds(SERVICES[name]["stop_grace_period"]) >= Settings().stop_grace + AFTER_STOP_GRACE_S


@pytest.mark.parametrize("name", COMMANDS)
def test_a_service_is_the_command_of_its_name_on_the_database_of_the_compose_file(name: str) -> None:
    service = SERVICES[name]
    entrypoint = service.get("entrypoint", DOCKERFILE.stages[-1].last("ENTRYPOINT").words)
    assert entrypoint == [f"datasync-{name}"]
    assert f"    datasync-{name} = " in (TOP / "setup.cfg").read_text(encoding="utf-8")
    assert service["env_file"] == [{"path": "../.env", "required": False}]
    assert service["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "work:/work" in service["volumes"]


def test_the_cluster_has_the_database_of_the_commands_and_its_workers_no_key() -> None:
    for name in CLUSTER[1:]:
        settings = dict(SERVICES[name]["environment"])
        assert settings.pop("DASK_SCHEDULER_ADDRESS") == "tcp://scheduler:8786"
        assert settings == SERVICES["ingest"]["environment"]
    assert SERVICES["worker"]["entrypoint"] == ["datasync-worker"]
    assert SERVICES["cluster-ingest"]["entrypoint"] == ["datasync-ingest", "--pool=dask"]
    assert "work:/work" in SERVICES["cluster-ingest"]["volumes"]
    assert not {name for name in CLUSTER[:2] if "env_file" in SERVICES[name]}


def test_only_the_ingest_starts_without_being_named() -> None:
    assert {name for name, service in SERVICES.items() if not service.get("profiles")} == {"ingest", "database"}


def test_no_secret_is_in_the_compose_files_and_no_port_is_opened() -> None:
    for name in COMPOSE_FILES:
        text = (DOCKER / name).read_text(encoding="utf-8")
        assert not re.search(r"PASSWORD: |://[^/@\s]*:[^/@\s]*@", text)
        assert not re.search(r"^\s*(ports|privileged):", text, re.M)


@pytest.mark.parametrize("name", DATABASES)
def test_the_database_is_on_no_network_and_meets_the_commands_at_its_socket(name: str) -> None:
    service = SERVICES[name]
    assert service["network_mode"] == "none"
    (socket,) = (volume.split(":")[0] for volume in service["volumes"] if volume.endswith(":/var/run/postgresql"))
    users = {user for user, other in SERVICES.items() if f"{socket}:/run/postgresql" in other.get("volumes", [])}
    assert users == ({*COMMANDS, *CLUSTER[1:]} if name == "database" else {"demo"})


@pytest.mark.parametrize("name", DATABASES)
def test_the_database_keeps_its_data_where_postgresql_18_does(name: str) -> None:
    assert SERVICES[name]["image"].startswith("postgres:18.")
    assert f"{name}:/var/lib/postgresql" in SERVICES[name]["volumes"]


def test_every_volume_is_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_the_commands_reach_the_database_by_its_socket_and_without_a_password() -> None:
    made = SERVICES["database"]["environment"]
    assert parse_dsn(SERVICES["ingest"]["environment"]["DATABASE_URL"]) == {
        "user": made["POSTGRES_USER"],
        "dbname": made["POSTGRES_DB"],
        "host": "/run/postgresql",
        "port": "5432",
    }


def test_the_demo_has_the_key_and_the_address_of_its_simulator() -> None:
    demo, simulator = SERVICES["demo"]["environment"], SERVICES["simulator"]["command"]
    assert f"--api-key={demo['TARGET_API_KEY']}" in simulator
    assert demo["API_BASE_URL"] == "http://simulator:8080"
    assert {"--host=0.0.0.0", "--port=8080"} <= set(simulator)
    assert "env_file" not in SERVICES["demo"]


def test_the_readme_names_services_and_files_that_there_are() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8").split("\n## Docker\n")[1].split("\n## ")[0]
    named = set(re.findall(r"(?:run --rm|exec)(?: -T)? ([a-z][a-z-]+)", text))
    assert named == {*COMMANDS, "demo", "database"}
    assert all((TOP / name).is_file() for name in re.findall(r"docker/[\w.-]+", text))


def test_the_key_file_goes_to_the_commands_that_have_the_key() -> None:
    added = YAML(typ="safe").load(DOCKER / "compose.key-file.yaml")
    assert set(added["services"]) == {"ingest", "submit"}
    for service in added["services"].values():
        assert service["environment"] == {
            "TARGET_API_KEY": "",
            "TARGET_API_KEY_FILE": f"/run/secrets/{service['secrets'][0]}",
        }


def test_each_of_many_sources_has_a_schema_a_folder_and_a_key_of_its_own() -> None:
    many = YAML(typ="safe").load(DOCKER / "compose.many.yaml")["services"]
    assert len(many) == 3
    for name, service in many.items():
        assert service == {
            "extends": {"file": "compose.yaml", "service": "ingest"},
            "env_file": [{"path": f"../sources/{name}/.env"}],
            "environment": {"DB_SCHEMA": name, "DATA_DIR": f"/work/sources/{name}", "WORKER_CONCURRENCY": 2},
        }
        assert not set(SERVICES) & set(many)
