"""timm is loaded without torch's compiler, which is there when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest


def output_of(script: str) -> list[str]:
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return found.stdout.split()


LOADED = """
import sys
from indexer.features.weights.library import load_timm
timm = load_timm()
import torch, torchvision
print("torch._dynamo" in sys.modules)
"""


def test_the_compiler_is_not_loaded_with_timm() -> None:
    assert output_of(LOADED) == ["False"]


@pytest.mark.parametrize(
    "use",
    [
        "found = torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).sum().item() == 4",
        # a function that timm marks, which is marked when it is called
        "from timm.models import naflexvit as n; t = torch.ones(1, 3, 32, 32)\n"
        "found = n.batch_patchify(t, (16, 16))[0].shape == (1, 4, 768)",
        # one that torchvision asks about boxes
        "from torchvision.ops.roi_align import is_compile_supported as asked\n"
        "import torch._dynamo.utils as u; found = asked('cpu') == u.is_compile_supported('cpu')",
    ],
    ids=["compile", "marked", "asked"],
)
def test_what_needs_the_compiler_works_afterwards(use: str) -> None:
    told = output_of(LOADED + use + "\nfrom torch import _dynamo\nprint(found, _dynamo.__file__ is not None)")
    assert told == ["False", "True", "True"]


STANDING = """
import sys, torch
from indexer.features.weights import library
with library._compiler_later():
    {use}
print("torch._dynamo.eval_frame" in sys.modules, type(sys.modules["torch._dynamo"]).__name__, found)
"""


@pytest.mark.parametrize(
    "use",
    [
        "found = torch._dynamo.is_compiling()",
        "from torch._dynamo.utils import counters; found = not counters",
        "import torch._dynamo.config; found = torch._dynamo.config.verbose",
        "found = torch.compiler.disable(torch.nn.Linear(2, 2)).weight is None",
    ],
)
def test_what_asks_for_more_of_it_meanwhile_loads_it(use: str) -> None:
    real, kind, _ = output_of(STANDING.format(use=use))
    assert (real, kind) == ("True", "module")


def test_a_compiler_that_is_there_is_left_alone() -> None:
    script = "import torch._dynamo as d, sys\nfrom indexer.features.weights.library import load_timm\n"
    assert output_of(script + "load_timm(); print(sys.modules['torch._dynamo'] is d)") == ["True"]
