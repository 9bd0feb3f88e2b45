"""No code comes with weights: neither in a pickle, nor beside a model's configuration."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from indexer.features.weights.encoders import load_encoder
from indexer.features.weights.source import tensors_alone
from retrieval.errors import WeightsError


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)


def test_a_pickle_is_not_run_whoever_asks_for_it(tmp_path: Path) -> None:
    torch.save({"x": Evil(tmp_path / "made")}, tmp_path / "w.bin")
    with tensors_alone(), pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.bin", weights_only=False)
    assert not (tmp_path / "made").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    torch.load(tmp_path / "w.bin", weights_only=False)
    assert (tmp_path / "made").exists()  # so it would have been


@pytest.mark.parametrize("weights", ["file", "random"])
def test_the_code_of_an_encoders_folder_is_not_run(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr("builtins.input", lambda question: "y")  # who asks is answered
    folder = tmp_path / "encoder"
    folder.mkdir()
    names = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokens", None]}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": names}))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\n")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_encoder(str(folder), f"file:{folder}" if weights == "file" else "random", "AutoTokenizer")
    assert not (tmp_path / "made").exists()
