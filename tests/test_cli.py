"""The command line: answers at once, maps every end to its exit code, one line for an error."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from l1kd import cli
from l1kd.core import context
from l1kd.core.context import Context, show_table
from l1kd.core.errors import CheckFailed, UserError
from l1kd.runs import doctor

Call = Callable[..., subprocess.CompletedProcess[str]]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_importing_loads_no_heavy_library() -> None:
    code = (
        "import sys, importlib\n"
        "heavy = {'tensorflow', 'hls4ml', 'qkeras', 'matplotlib', 'sklearn'}\n"
        "for name in ('l1kd', 'l1kd.cli', 'l1kd.runs.run'):\n"
        "    importlib.import_module(name); print(name, sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split("\n") == ["l1kd []", "l1kd.cli []", "l1kd.runs.run []", ""]


def test_help_loads_no_tensorflow_and_every_verb_has_an_example(l1kd: Call) -> None:
    verbs = [
        [],
        *([v] for v in ("run", "train", "evaluate", "convert", "verify", "synth", "report")),
        *([v] for v in ("compare", "doctor", "import", "init", "list", "describe", "schema")),
        *([v] for v in ("export", "check")),
        *(["data", v] for v in ("list", "fetch", "generate")),
    ]
    code = (
        "import sys; from l1kd import cli\n"
        f"for verb in {verbs}:\n"
        "    try: cli.main([*verb, '-h'])\n"
        "    except SystemExit as end: assert not end.code\n"
        "print('heavy:', sorted({'tensorflow', 'hls4ml'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("Example:") == len(verbs)
    assert "heavy: []" in answer.stdout
    assert "l1kd[physics]" in answer.stdout, "no markup"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("two\nlines"), 2, "two lines"),
        (CheckFailed("a bit differs"), 1, "a bit differs"),
        (KeyboardInterrupt(), 130, "same command"),
        (OSError(28, "No space left on device", "x.npz"), 2, "free some space"),
        (OSError(30, "Read-only file system", "x.npz"), 2, "cannot be written"),
        (OSError(13, "Permission denied", "x.npz"), 2, "may write"),
        (shutil.Error([("a", "b/c", "[Errno 28] No space left on device: 'b/c'")]), 2, "b/c: No"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device")]), 2, "free some space"),
        (OSError("Unable to write (errno = 28, 'No space left on device')"), 2, "free some space"),
        (OSError("truncated file"), 2, "truncated file"),
        (caused(ValueError("x"), OSError(28, "No space left on device")), 2, "free some space"),
        (caused(ValueError("x"), OSError(2, "No such file")), 70, "ValueError"),
        (ImportError("lib.so: failed to map segment from shared object"), 2, "out of memory"),
        (OSError(12, "Cannot allocate memory"), 2, "out of memory"),
        (MemoryError(), 2, "memory"),
        (ZeroDivisionError("oops"), 70, "ZeroDivisionError: oops"),
    ],
)
def test_every_end_has_its_exit_code(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == code
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert "Traceback" not in message


def test_debug_shows_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError):
        cli.main(["run", "nonesuch", "--debug"])


@pytest.mark.parametrize(
    "arguments", [["rnu"], ["run"], ["run", "l1toy", "--until", "tran"], ["run", "l1toy", "--x"]]
)
def test_usage_errors_are_one_line(arguments: list[str], l1kd: Call) -> None:
    answer = l1kd(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.strip().count("\n") == 0
    assert answer.stderr.startswith("l1kd: error:")


def test_no_bracket_of_a_message_is_taken_for_markup(
    l1kd: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no text between colons for a picture, in a terminal of any width."""
    monkeypatch.setattr(doctor, "_PACKAGES", (("nonesuch", "pip install 'l1kd[da]'", False),))
    answer = l1kd("doctor", COLUMNS="50")
    assert "\nnonesuch: pip install 'l1kd[da]'\n" in answer.stdout
    console = Console(file=io.StringIO(), width=40)
    show_table(("a [ns]", "b"), [("x[da]", "p:x:key"), ("[/]", "z" * 60)], console)
    shown = console.file.getvalue()
    assert all(text in shown for text in ("a [ns]", "x[da]", "p:x:key", "[/]"))
    assert shown.count("z") == 60, "long words are folded, not cut"
    Context(Path(), None, console).say("pip install 'l1kd[da]' a:x:b")
    assert "'l1kd[da]' a:x:b" in console.file.getvalue()


def test_a_log_tells_of_a_step_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "TELL_S", 0)
    console = Console(file=io.StringIO(), width=200)
    with Context(Path(), None, console).progress("scores [x]", 10) as advance:
        advance(3)
        advance(2, "loss 0.5")
    first, second = console.file.getvalue().splitlines()
    assert re.fullmatch(r"scores \[x\]: 3 of 10, \d+ s", first)
    assert re.fullmatch(r"scores \[x\]: loss 0.5: 5 of 10, \d+ s", second)


def test_a_step_that_tells_nothing_has_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "TELL_S", 0.01)
    text = io.StringIO()
    with Context(Path(), None, Console(file=text, width=200)).clock("verify"):
        while "so far" not in text.getvalue():
            time.sleep(0.01)
    assert re.match(r"verify: \d+ s so far\n", text.getvalue())
    assert not [thread for thread in threading.enumerate() if "tell" in thread.name]


def test_the_shell_completes_verbs_and_shipped_configurations(l1kd: Call) -> None:
    words = {"_L1KD_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert l1kd(**words, COMP_WORDS="l1kd run cic").stdout.split() == ["cicada_v1", "cicada_v2"]
    assert "describe" in l1kd(**words | {"COMP_CWORD": "1"}, COMP_WORDS="l1kd de").stdout


def test_doctor_names_what_is_missing_and_the_remedy(l1kd: Call, tmp_path: Path) -> None:
    answer = l1kd("doctor", PATH=str(tmp_path), CXX="", COLUMNS="500")
    assert answer.returncode == 1
    assert "apt install g++" in answer.stdout
    broken = l1kd("doctor", CXX="g++ -wrapper /nowhere/cc1plus", COLUMNS="500")
    assert broken.returncode == 1 and "does not compile three lines of C++" in broken.stdout
    assert l1kd("doctor").returncode == 0
