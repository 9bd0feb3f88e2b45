"""Recipes: YAML, overrides, and what an error says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from indexer.recipe import Recipe, built_recipe, load_recipe, override_recipe, recipe_from_dict
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
            "image.overlap=0.4",
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
        "image.scale=1.0",
        "features.pca=4",
        "features.metric=class",
        "features.metric=whiten",
        "objective.infonce.tempered=true",
        "bank.max_patches=7",
        "bank.augmentation.jitter=0.3",
        "bank.augmentation=hummingbird",
    ],
)
def test_fingerprint_sees_what_decides_the_rows(override: str) -> None:
    assert load_recipe(None, [override]).fingerprint() != Recipe().fingerprint()


@pytest.mark.parametrize("setting", ["transfer.prior={cat: 0.2}", "transfer.calibration=1.5"])
def test_calibration_and_priors_are_of_masks_and_decide_no_row(setting: str) -> None:
    assert load_recipe(None, [setting]).fingerprint() == Recipe().fingerprint()
    with pytest.raises(ConfigError, match="are of masks; of whole images leave them empty"):
        load_recipe(None, ["features.level=image", setting])


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
    path.write_text("features: {projection: none}\nindex: {engine: faiss}\n")
    assert load_recipe(path, ["index.engine=exact"]).features.projection == "none"
    with pytest.raises(ConfigError, match=r"set index\.engine=exact"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("{kind: null, temperature: 0.1}", "objective.kind = None does not fit.*should be the name"),
        ("{kind: 5, temperature: 0.1}", "objective.kind = 5 does not fit.*should be the name"),
        ("{kind: [null], temperature: 0.1}", "should be the name of an objective, or several in brackets"),
        ("{kind: {infonce: 1}}", "should be the name of an objective"),
        ("null", "objective is a section of settings, not None"),
        ("{infonce: null, temperature: 0.1}", "objective.infonce is a section of settings, not None"),
    ],
)
def test_malformed_objectives_are_refused_in_a_sentence(objective: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(f"objective: {objective}\n")
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)
    with pytest.raises(ConfigError, match=message):
        built_recipe(yaml.safe_load(path.read_text()), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.infonce.patches=1"], "patches = 1 does not fit.*greater than or equal to 4"),
        (
            ["objective.infonce.patches=250000"],
            "518 x 518 pixels into windows of 1 x 1.* at most 67081",
        ),
        (["objective.infonce.patches=1024", "image.size=[32,64]"], "windows of 1 x 2.*at most 256"),
    ],
)
def test_windows_of_whole_images_show_something(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(None, ["features.level=image", *overrides])


@pytest.mark.parametrize("override", ["objective.kind=kl", "features.kind=embeddings", "image.size=auto"])
def test_windows_count_only_where_there_are_any(override: str) -> None:
    overrides = ["features.level=image", "objective.infonce.patches=250000"]
    assert load_recipe(None, [*overrides, override]).whole


def test_what_whole_images_ignore_is_named_and_not_in_their_fingerprint() -> None:
    whole = load_recipe(None, ["features.level=image"])
    ignored = [
        "image.fit=pad",
        "bank.max_patches=null",
        "bank.augmentation.jitter=0.3",
        "bank.protocol=hummingbird",
    ]
    changed = load_recipe(None, ["features.level=image", "objective.infonce.neighbours=0", *ignored])
    assert changed.fingerprint() == whole.fingerprint()
    assert changed.ignored == ("image.fit", "bank.max_patches", "bank.augmentation", "bank.protocol")
    assert whole.ignored == () == load_recipe(None, ignored).ignored
    for override in ("objective.infonce.negatives=3", "image.size=[224,224]", "bank.max_images=5"):
        other = load_recipe(None, ["features.level=image", override])
        assert other.fingerprint() != whole.fingerprint()


def test_settings_of_a_metric() -> None:
    recipe = load_recipe(
        None, ["features.metric=class", "features.shrinkage=ledoit-wolf", "features.width=9"]
    )
    assert (recipe.features.shrinkage, recipe.features.kept, recipe.features.reduces) == (
        "ledoit-wolf",
        9,
        True,
    )
    assert recipe_from_dict(recipe.model_dump(mode="json")) == recipe
    for override in ("features.shrinkage=0.2", "features.width=8"):
        assert override_recipe(recipe, [override]).fingerprint() != recipe.fingerprint()
    for wrong in ("1.1", "-0.1", "oracle", "[0.1]"):
        with pytest.raises(ConfigError, match=r"shrinkage = .* a number from 0 to 1, or ledoit-wolf"):
            load_recipe(None, ["features.metric=class", f"features.shrinkage={wrong}"])


def test_recipes_of_before_the_metric_stay_the_same() -> None:
    data = load_recipe(None, ["features.pca=8", "features.whiten=half"]).model_dump(mode="json")
    for key in ("metric", "shrinkage", "width"):
        del data["features"][key]
    recipe = recipe_from_dict(data)
    assert (recipe.features.metric, recipe.features.kept, recipe.features.whiten) == ("none", 8, "half")
    assert recipe.fingerprint() == "bef24727df60b4f6dd6259dc2849a76401c5f7efeec5020708394fff37013efc"
