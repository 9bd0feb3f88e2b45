"""The driver of abusive inputs: its small form, and that it sees what must not happen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import ConfigError

from .driver import worker
from .driver.case import Case, FaultError, RefusedError, judged
from .driver.worker import Outcome, outcomes

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, forks"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
ROOT = Path(__file__).parent.parent.parent


def test_a_few_inputs_of_all_kinds() -> None:
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "tests.abuse", "--inputs", "150", "--seed", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "| all | 150 |" in done.stdout


def right(case: Case) -> None:
    case.out.mkdir()
    (case.out / "mask").write_text("x")


def error(case: Case) -> None:
    raise ConfigError("it does not fit; choose another")


def refused(case: Case) -> None:
    raise RefusedError("error: it does not fit")


def bug(case: Case) -> None:
    raise KeyError("x")


def outside(case: Case) -> None:
    (case.fixed.parent.parent / "elsewhere").write_text("x")


def hidden(case: Case) -> None:
    try:
        outside(case)
    except OSError as problem:
        raise ConfigError("cannot be written") from problem


def changes(case: Case) -> None:
    (case.inside / "photo").write_text("x")
    case.freeze()
    (case.inside / "photo").write_text("xy")


def leaves(case: Case) -> None:
    case.freeze()
    (case.place / "tmp" / "left").write_text("x")


def spoils(case: Case) -> None:
    (case.fixed / "data").write_text("other")


def starts(case: Case) -> None:
    subprocess.run(["true"], check=False)


def unpickles(case: Case) -> None:
    import pickle

    pickle.loads(pickle.dumps(Outcome))


def takes(case: Case) -> None:
    assert np.ones(20_000_000).sum()


def dies(case: Case) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(case: Case) -> None:
    time.sleep(600)


WRONG: dict[Callable[[Case], None], str] = {
    **{bug: "KeyError at", outside: "write", hidden: "write", changes: "changed", leaves: "came"},
    **{spoils: "write", starts: "subprocess.Popen", unpickles: "pickle.find_class", takes: "memory"},
    **{dies: "signal 11", hangs: "did not end within 3 s"},
}


def test_each_thing_that_must_not_happen_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_SECONDS", 3.0)
    monkeypatch.setattr(worker, "MOST_MEMORY", 100)
    fixed = tmp_path / "root" / "fixed"
    fixed.mkdir(parents=True)
    (fixed / "data").write_text("x")
    acts = {act.__name__: act for act in (right, error, refused, *WRONG)}
    inputs = [(name, 0) for name in (*acts, "right")]
    ended = list(outcomes(tmp_path / "root", fixed, acts, iter(inputs), seed=1))
    assert [(outcome.kind, outcome.number) for outcome in ended] == inputs
    ends = {outcome.kind: outcome.end for outcome in ended}
    assert ends == {"right": "right", "error": "error", "refused": "error"} | {
        act.__name__: "fault" for act in WRONG
    }
    for outcome in ended:
        expected = WRONG.get(acts[outcome.kind], "")
        assert expected in outcome.where, outcome
    assert (fixed / "data").read_text() == "x"
    assert not (tmp_path / "elsewhere").exists()


class Ended:
    """What the runner of commands gives."""

    def __init__(self, exit_code: int, stderr: str, exception: BaseException | None = None) -> None:
        self.exit_code, self.stderr, self.exception = exit_code, stderr, exception


@pytest.mark.parametrize(
    ("ended", "end"),
    [
        (Ended(0, ""), None),
        (Ended(1, "reading\nerror: it does not fit\n"), RefusedError),
        (Ended(2, "Usage: x\n\nError: No such option\n"), RefusedError),
        (Ended(1, ""), FaultError),
        (Ended(1, "error: a\nerror: b\n"), FaultError),
        (Ended(1, f"error: {'x' * 2000}\n"), FaultError),
        (Ended(2, ""), FaultError),
        (Ended(3, "error: it does not fit\n"), FaultError),
        (Ended(0, "Traceback (most recent call last)\n"), FaultError),
        (Ended(0, "/a/b.py:12: RuntimeWarning: overflow\n"), FaultError),
        (Ended(1, "error: a", KeyError("a")), KeyError),
    ],
)
def test_how_a_command_ends_is_judged(ended: Ended, end: type[BaseException] | None) -> None:
    if end is None:
        assert judged(ended) is ended
        return
    with pytest.raises(end):
        judged(ended)
