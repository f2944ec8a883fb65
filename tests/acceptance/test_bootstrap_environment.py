"""bin/* set themselves up: once, atomically, and out of the way of what already runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.checkout import VERSION, Checkout, environment, new_checkout, quick_python, run, write_package, write_wheel
from tests.harness import until

SETTING_UP = "Setting up "
WAITING = "Waiting for another command "


@pytest.fixture
def plain_checkout(tmp_path: Path) -> Checkout:
    """With the Python that runs the tests: a set-up unpacks its pip, which takes 3 s."""
    return new_checkout(tmp_path / "a checkout")


@pytest.fixture
def checkout(plain_checkout: Checkout, tmp_path: Path) -> Checkout:
    """With a Python whose set-ups take 1 s."""
    return Checkout(plain_checkout.top, str(quick_python(tmp_path / "python")))


def begun(checkout: Checkout) -> bool:
    """A set-up is under way: its folder is there, its stamp is not."""
    return any((path / "pyvenv.cfg").exists() for path in checkout.environments()) and not checkout.complete()


@pytest.mark.long
def test_the_first_command_says_one_line_and_the_second_none(plain_checkout: Checkout) -> None:
    first = plain_checkout.run("--flag", "two words", "exit", "7")
    second = plain_checkout.run("exit", "0")
    assert (first.code, first.said["arguments"]) == (7, ["ingest", "--flag", "two words", "exit", "7"])
    assert len(first.err) == 1
    assert first.err[0].startswith(SETTING_UP)
    assert (second.code, second.err) == (0, [])
    assert (plain_checkout.top / ".venv" / "bin" / "python").resolve() == Path(first.said["python"]).resolve()


@pytest.mark.long
def test_a_command_is_found_through_a_link_and_from_any_folder_and_imports_nothing_from_there(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_package(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "json.py").write_text("raise SystemExit('a stranger was imported')")
    (tmp_path / "elsewhere" / "link").symlink_to(checkout.top / "bin" / "ingest")
    (tmp_path / "link to link").symlink_to(tmp_path / "elsewhere" / "link")
    ran = run([str(tmp_path / "link to link"), "exit", "3"], environment(), cwd=tmp_path / "elsewhere")
    assert (ran.code, ran.said["package"]) == (3, str(checkout.top / "datasync_ingest" / "__main__.py"))


def test_the_checkout_comes_before_another_one_on_pythonpath(checkout: Checkout, tmp_path: Path) -> None:
    write_package(tmp_path / "other")
    ran = checkout.run(PYTHONPATH=str(tmp_path / "other"))
    assert ran.said["package"] == str(checkout.top / "datasync_ingest" / "__main__.py")


def test_the_command_is_the_same_process_so_that_signals_reach_it(checkout: Checkout) -> None:
    with checkout.start("import", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_changed_requirements_replace_the_environment(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run()
    before = checkout.environments()
    checkout.require(str(write_wheel(tmp_path, "late_module")))
    ran = checkout.run("import", "late_module")
    assert ran.code == 0
    assert len(ran.err) == 1
    assert ran.err[0].startswith(SETTING_UP)
    assert len(checkout.environments()) == 1
    assert checkout.environments() != before
    assert checkout.run().err == []


def test_only_a_pool_on_a_cluster_gets_an_environment_with_dask(checkout: Checkout, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "late_module")
    (checkout.top / "datasync_ingest" / "pools").mkdir()
    (checkout.top / "datasync_ingest" / "pools" / "requirements.txt").write_text(f"{wheel}\n")
    with_it = checkout.run("--pool", "dask", "import", "late_module")
    assert (with_it.code, Path(with_it.said["prefix"]).name[:10]) == (0, ".venv-dask")
    assert not (checkout.top / ".venv").exists()
    assert checkout.run("--pool", "processes", "import", "late_module").code == 1
    assert checkout.run("--pool=dask").said["prefix"] == with_it.said["prefix"]
    assert len(checkout.complete()) == 2


def test_a_running_command_keeps_its_environment_until_its_end(checkout: Checkout, tmp_path: Path) -> None:
    checkout.require(str(write_wheel(tmp_path, "late_module")))
    with checkout.start("import", "late_module") as running:
        assert running.stdout is not None
        said = json.loads(running.stdout.readline())
        checkout.require()
        assert checkout.run().code == 0
        assert Path(said["prefix"]) in checkout.complete()
        assert running.communicate("go on\n", timeout=60)[1].startswith(SETTING_UP)
        assert running.returncode == 0
    checkout.require(str(write_wheel(tmp_path, "third_module")))
    checkout.run()
    assert Path(said["prefix"]) not in checkout.environments()


def test_two_commands_at_once_make_one_environment(plain_checkout: Checkout) -> None:
    with plain_checkout.start("exit", "0") as one, plain_checkout.start("exit", "0") as other:
        lines = [process.communicate(timeout=100)[1].splitlines() for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0)
    assert sorted(line.split(" ")[0] for said in lines for line in said) == ["Setting", "Waiting"]
    assert len(plain_checkout.complete()) == 1


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_interrupted_set_up_heals(
    plain_checkout: Checkout, checkout: Checkout, signum: signal.Signals, code: int
) -> None:
    with plain_checkout.start() as interrupted:
        until(lambda: begun(checkout), what="the set-up")
        interrupted.send_signal(signum)
        err = interrupted.communicate(timeout=60)[1].splitlines()
    assert interrupted.returncode == code
    assert [line.split(" ")[0] for line in err] == (["Setting"] if code < 0 else ["Setting", "Set-up"])
    healed = checkout.run()
    assert healed.code == 0
    assert [line for line in healed.err if not line.startswith(WAITING)] == [line for line in err if "..." in line]
    assert checkout.run().err == []


def test_what_the_caller_ignores_stays_ignored(checkout: Checkout) -> None:
    command = ["nohup", *checkout.command("import", "json")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate("go on\n", timeout=60)
    assert process.returncode == 0


def test_an_environment_whose_python_is_gone_or_another_is_made_anew(checkout: Checkout) -> None:
    checkout.run()
    (made,) = checkout.environments()
    (made / "bin" / "python").unlink()
    assert checkout.run().err[0].startswith(SETTING_UP)
    (made / "bin" / "python").unlink()
    (made / "bin" / "python").symlink_to("/bin/sh")
    ran = checkout.run()
    assert ran.code == 0
    assert ran.err[0].startswith(SETTING_UP)


@pytest.mark.long
def test_a_moved_checkout_sets_itself_up_again_where_it_is(checkout: Checkout, tmp_path: Path) -> None:
    checkout.run()
    moved = Checkout(checkout.top.rename(tmp_path / "moved"))
    ran = moved.run()
    assert ran.err[0].startswith(SETTING_UP)
    assert ran.said["package"].startswith(str(moved.top))
    assert len(moved.environments()) == 1


def test_a_folder_called_venv_that_somebody_else_made_stays(checkout: Checkout) -> None:
    (checkout.top / ".venv").mkdir()
    (checkout.top / ".venv" / "mine").touch()
    assert checkout.run().code == 0
    assert os.listdir(checkout.top / ".venv") == ["mine"]


# What the running Python has installed | whether that is used
INSTALLED = {
    "this version": (VERSION, [], True),
    "this version and what it needs": (VERSION, ["pip>=1", 'nothing-of-that-name>=1; extra == "test"'], True),
    "this version without an extra that is not asked for": (
        VERSION,
        ['nothing-of-that-name>=1; extra == "dask"'],
        True,
    ),
    "another version": ("1.2.2", [], False),
    "this version without what it needs": (VERSION, ["nothing-of-that-name>=1"], False),
}


@pytest.mark.parametrize(("version", "needs", "used"), INSTALLED.values(), ids=INSTALLED.keys())
def test_an_installed_package_is_used_when_it_is_the_same_and_whole(
    checkout: Checkout, tmp_path: Path, version: str, needs: list[str], used: bool
) -> None:
    python = python_with_package(tmp_path / "installation", version, needs)
    ran = Checkout(checkout.top, str(python)).run("exit", "4")
    assert ran.code == 4
    assert ran.said["package"].startswith(str(tmp_path / "installation")) == used
    assert bool(checkout.environments()) != used


def python_with_package(folder: Path, version: str, needs: list[str]) -> Path:
    """A Python with the tests' small package installed in it, as pip would leave it."""
    python = quick_python(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    write_package(packages)
    for name, number, lines in [("datasync_ingest", version, needs), ("pip", "20", [])]:
        required = "".join(f"Requires-Dist: {line}\n" for line in lines)
        (packages / f"{name}-{number}.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n{required}"
        (packages / f"{name}-{number}.dist-info" / "METADATA").write_text(text)
    return python
