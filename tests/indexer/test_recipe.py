"""Recipes: YAML, overrides, and what an error says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from indexer.recipe import Recipe, load_recipe, override_recipe, recipe_from_dict
from retrieval.errors import ConfigError


def test_defaults_are_a_recipe() -> None:
    assert load_recipe() == Recipe()


def test_file_and_overrides_merge(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nfeatures: {kind: embeddings}\nimage: {size: [64, 96]}\n")
    recipe = load_recipe(path, ["image.size=[32, 48]", "features.pca=8", "bank.max_patches=null"])
    assert (recipe.seed, recipe.features.kind, recipe.features.pca) == (3, "embeddings", 8)
    assert recipe.image.size == (32, 48)
    assert recipe.bank.max_patches is None


def test_dump_reads_back(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe("bank.epochs=3", "features.whiten=half")
    path = tmp_path / "dump.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(path) == recipe
    assert yaml.safe_load(path.read_text()).keys() == Recipe.model_fields.keys()


def test_override_recipe_leaves_the_rest() -> None:
    recipe = load_recipe(None, ["seed=5"])
    changed = override_recipe(recipe, ["transfer.k=7"])
    assert (changed.seed, changed.transfer.k, recipe.transfer.k) == (5, 7, 30)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("features.knd", "features.kind"),
        ("feature.kind", "features"),
        ("max_patches", "bank.max_patches"),
        ("bank.max_patchs", "bank.max_patches"),
        ("bank.augmentation.jiter", "bank.augmentation.jitter"),
        ("runtim", "runtime"),
    ],
)
def test_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown key .*did you mean {nearest}\\?"):
        load_recipe(None, [f"{key}=1"])


def test_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text("features:\n  kin: fungi\n")
    with pytest.raises(
        ConfigError, match=r"typo\.yaml: unknown key features\.kin; did you mean features\.kind"
    ):
        load_recipe(path)


def test_a_bad_override_does_not_blame_the_file(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text("seed: 1\n")
    for override in ("features.kin=fungi", "features.kind=pixels"):
        with pytest.raises(ConfigError, match=r"^the command line: .*features\.kin"):
            load_recipe(path, [override])


def test_hopeless_key_points_to_help() -> None:
    with pytest.raises(ConfigError, match=r"unknown key zzzzqqqq; .*--help"):
        load_recipe(None, ["zzzzqqqq=1"])


@pytest.mark.parametrize("override", ["features.kind", "=3", "features.kind:embeddings"])
def test_override_needs_key_and_value(override: str) -> None:
    with pytest.raises(ConfigError, match="should be key=value"):
        load_recipe(None, [override])


def test_override_value_must_be_yaml() -> None:
    with pytest.raises(ConfigError, match=r"image\.size=\[1.*no YAML"):
        load_recipe(None, ["image.size=[1"])


def test_override_cannot_go_below_a_value(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match="seed is a value, not a section"):
        load_recipe(path, ["seed.deep=1"])


@pytest.mark.parametrize(
    "override",
    [
        "features.kind=pixels",
        "features.gradient_weight=0",
        "features.gradient_weight=.inf",
        "objective.infonce.temperature=.nan",
        "objective.infonce.keep=1.5",
        "image.size=[48]",
        "transfer.k=0",
        "seed=many",
        "bank.augmentation.scale=[0, 1]",
        "bank.augmentation.scale=[2, 1]",
        "bank.augmentation=hummingbrid",
        "bank.augmentation={kind: hummingbird, jitter: 0.5}",
        "bank.augmentation=3",
        "index.engine=lucene",
    ],
)
def test_impossible_values_are_refused_by_name(override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0].replace(".", r"\.")):
        load_recipe(None, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("features: [", "cannot be read as YAML"),
        ("- a\n- b\n", "a recipe is a mapping of sections, not list"),
        ("features: fungi\n", "features is a section of settings"),
        ("\x00", "cannot be read as YAML"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"bad\.yaml: .*{message}"):
        load_recipe(path)


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert load_recipe(path) == Recipe()


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such recipe"):
        load_recipe(tmp_path / "absent.yaml")


def test_shipped_recipe_is_found_by_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "known.yaml").write_text("seed: 9\n")
    monkeypatch.setattr("indexer.recipe.config_folder", lambda: shipped)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("known.yaml").seed == 9
    assert load_recipe("configs/known.yaml").seed == 9
    with pytest.raises(ConfigError, match=r"elsewhere/known\.yaml: no such recipe.*known\.yaml"):
        load_recipe("elsewhere/known.yaml")


def test_fingerprint_ignores_where_and_how_the_job_runs() -> None:
    recipe = Recipe()
    same = override_recipe(
        recipe,
        [
            "runtime.device=cpu",
            "runtime.batch_size=9",
            "transfer.k=90",
            "transfer.refine=guided",
            "image.shifts=2",
            "image.flip=true",
            "index.engine=exact",
        ],
    )
    assert same.fingerprint() == recipe.fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "backbone.block=3",
        "image.fit=pad",
        "features.pca=4",
        "objective.infonce.tempered=true",
        "bank.max_patches=7",
        "bank.augmentation.jitter=0.3",
        "bank.augmentation=hummingbird",
    ],
)
def test_fingerprint_sees_what_decides_the_rows(override: str) -> None:
    assert load_recipe(None, [override]).fingerprint() != Recipe().fingerprint()


@pytest.mark.parametrize("setting", ["image.shifts=2", "image.flip=true"])
def test_whole_images_have_no_finer_masks(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"of whole images they have to be 1 and false"):
        load_recipe(None, ["features.level=image", setting])
    with pytest.raises(ConfigError, match=r"image\.shifts = 3 does not fit"):
        load_recipe(None, ["image.shifts=3"])


def test_augmentation_is_a_section_or_a_word(tmp_path: Path) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text("bank: {augmentation: hummingbird}\n")
    theirs = load_recipe(path)
    assert theirs.bank.augmentation.kind == "hummingbird"
    assert theirs.bank.augments(0) and theirs.bank.augments(1)
    assert theirs.model_dump(mode="json")["bank"]["augmentation"] == "hummingbird"
    assert recipe_from_dict(theirs.model_dump(mode="json")) == theirs
    assert load_recipe(None, ["bank.augmentation.kind=hummingbird"]) == theirs
    ours = load_recipe(path, ["bank.augmentation=mycelia"])
    assert ours == Recipe()
    assert not ours.bank.augments(0) and ours.bank.augments(1)
    # what a recipe was before there were two kinds: old manifests are read, new ones say the same
    assert ours.model_dump(mode="json")["bank"]["augmentation"] == {"scale": [0.5, 2.0], "jitter": 0.2}
    assert recipe_from_dict({"bank": {"augmentation": {"scale": [0.5, 2.0], "jitter": 0.2}}}) == ours
    with pytest.raises(ConfigError, match="leave out scale and jitter"):
        load_recipe(None, ["bank.augmentation={kind: hummingbird, jitter: 0.5}"])


def test_fingerprint_says_whether_rows_can_be_reranked_but_not_how_many_are() -> None:
    off, some, more = (load_recipe(None, [f"rerank.candidates={n}"]) for n in ("null", 60, 240))
    # what this recipe had before there was re-ranking: an index that was begun then can be finished
    before = "bdbc21faf6c77c2744860a15abaac084eeba6a591d614f672a25d84c584938ea"
    assert off.fingerprint() == Recipe().fingerprint() == before
    assert off.fingerprint() != some.fingerprint() == more.fingerprint()
    assert (off.reranks, some.reranks) == (False, True)


def test_recipe_from_dict_names_its_source() -> None:
    with pytest.raises(ConfigError, match=r"manifest\.json: seed = 'x' does not fit"):
        recipe_from_dict({"seed": "x"}, where="manifest.json")


def test_overrides_may_complete_what_a_file_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "exact.yaml"
    path.write_text("features: {projection: none}\n")
    assert load_recipe(path, ["index.engine=exact"]).features.projection == "none"
    with pytest.raises(ConfigError, match=r"set index\.engine=exact"):
        load_recipe(path)
