"""Teachers: published sizes; the score is the power mean it says it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from tensorflow import keras

from l1kd.core.config_types import VALUES
from l1kd.core.errors import UserError
from l1kd.core.fixed_point import FixedPoint
from l1kd.core.teacher_config import Teacher
from l1kd.data.dataset import Dataset, Sample
from l1kd.data.moments import measure_spread
from l1kd.networks.load import load_model, save_model
from l1kd.networks.teachers import AUTOENCODERS, build_teacher, latents_of

CALO = np.random.default_rng(0).poisson(3, (300, 18, 14, 1)).astype(np.float32)


def teacher(architecture: str, events: np.ndarray, axes: tuple[int, ...] = (), **options: object):  # type: ignore[no-untyped-def,type-arg]
    config = Teacher(architecture=architecture, **options)  # type: ignore[arg-type]
    sample = Sample.of("train", events)
    own = Dataset(sample, sample, sample, {}, FixedPoint(11, 11), standardise_axes=axes)
    return build_teacher(config, own)


def test_published_sizes() -> None:
    images = np.random.default_rng(0).random((9, 28, 28, 1)).astype(np.float32)
    assert teacher("paper", images, latent=20).count_params() == 19_357
    assert teacher("cicada", CALO, latent=80).count_params() == 323_731


def test_nothing_is_computed_that_no_stride_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).random((20, 28, 28, 1)).astype(np.float32)
    model = teacher("paper", images)
    monkeypatch.setattr("l1kd.networks.teachers.layers.Cropping2D", lambda sides: lambda x: x)
    whole = teacher("paper", images)
    assert len(whole.layers) == len(model.layers) - 1
    whole.set_weights(model.get_weights())
    assert (whole(images).numpy() == model(images).numpy()).all()

    latent = keras.Model(whole.input, whole.get_layer("latent").output)
    for first, changes in ((25, False), (24, True)):
        other = images.copy()
        other[:, first:] = other[:, :, first:] = 0
        assert (latent(other).numpy() != latent(images).numpy()).any() == changes


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_score_is_a_weighted_power_mean_of_the_residual(power: float, scale: float) -> None:
    model = teacher(
        "dense", CALO, (0,), standardise=True, residual_power=power, residual_scale=scale, latent=2
    )
    inner = type(model)(
        model.input, [model.get_layer(n).output for n in ("standardised", "reconstruction")]
    )
    seen, rebuilt = (np.asarray(part, np.float64) for part in inner(CALO))
    _, deviation = measure_spread(Sample.of("train", CALO), (0,))
    weights = deviation**scale / (deviation**scale).mean()
    expected = (weights * np.abs(seen - rebuilt) ** power).mean((1, 2, 3))
    np.testing.assert_allclose(model(CALO).numpy(), expected, rtol=1e-4)


def test_standardised_inputs_have_no_mean_and_unit_spread_per_ring() -> None:
    events = CALO * np.arange(1, 15)[:, None]
    model = teacher("dense", events, (0,), standardise=True)
    seen = type(model)(model.input, model.get_layer("standardised").output)(events).numpy()
    assert np.abs(seen.mean((0, 1))).max() < 1e-3
    np.testing.assert_allclose(seen.std((0, 1)), 1, rtol=1e-3)


def test_a_dead_input_does_not_divide_by_zero() -> None:
    events = CALO.copy()
    events[:, 0, 0] = 0
    scores = teacher("dense", events, standardise=True)(events).numpy()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("architecture", "shape", "words"),
    [("paper", (18, 14, 1), "28x28"), ("cicada", (57,), "dense"), ("cicada", (5, 4, 1), "odd")],
)
def test_what_cannot_be_built_is_said(
    architecture: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        teacher(architecture, np.ones((9, *shape), np.float32))


def test_every_architecture_of_the_configuration_is_there() -> None:
    names = set(VALUES["teacher.architecture"]) - {"ensemble", "file"}
    fitted = {each for each in names if Teacher(architecture=each).closed_form}
    assert fitted == {"pca", "mahalanobis"}
    assert names == {*AUTOENCODERS, "contrast", *fitted}


@pytest.mark.parametrize(
    ("architecture", "options", "params"),
    [
        ("pca", {"square_root": 1.0}, 252 + 1 + 252 + 252),
        ("pca", {"components": 3}, 2 * 3 * 252 + 3 + 252),
        ("mahalanobis", {"square_root": 1.0}, 252 * 252 + 252),
    ],
)
def test_a_teacher_in_closed_form_is_scikit_learns_and_survives_a_file(
    architecture: str, options: dict[str, float], params: int, tmp_path: Path
) -> None:
    model = teacher(architecture, CALO, residual_power=4, standardise=True, **options)
    square_root = options.get("square_root")
    units = CALO.reshape(len(CALO), -1).astype(np.float64)
    if square_root is not None:
        units = np.sqrt(units + square_root)
    if architecture == "pca":
        pca = PCA(options.get("components", 1), svd_solver="full").fit(units)
        residual = units - pca.inverse_transform(pca.transform(units))
        expected = np.square(residual).mean(1)
    else:
        expected = LedoitWolf().fit(units).mahalanobis(units) / 252
    np.testing.assert_allclose(model(CALO).numpy(), expected, rtol=1e-3)
    assert model.trainable_weights == [] and model.count_params() == params
    save_model(model, tmp_path / "teacher.keras")
    again = load_model(tmp_path / "teacher.keras")
    np.testing.assert_array_equal(again(CALO).numpy(), model(CALO).numpy())
    names = {"standardised", "latent", "reconstruction", "raw_score"}
    assert names <= {layer.name for layer in again.layers}


def test_as_many_components_as_inputs_leave_nothing_to_score() -> None:
    with pytest.raises(UserError, match=r"252 inputs; set teacher\.components"):
        teacher("pca", CALO, components=252)


def test_a_classifier_s_score_is_the_odds_and_a_ring_may_be_turned() -> None:
    model = teacher("contrast", CALO, (0,), standardise=True, hidden=[5])
    logit = keras.Model(model.input, model.get_layer("logit").output)(CALO).numpy()[:, 0]
    np.testing.assert_allclose(np.log(model(CALO)), logit, rtol=1e-4, atol=1e-5)
    (latent,) = latents_of(model)
    assert latent.shape[1:] == (5,)
    assert keras.Model(model.input, latent)(CALO).shape == (300, 5)
    model.get_layer("logit").set_weights([np.full((5, 1), 1e4), np.zeros(1)])
    assert np.isfinite(model(CALO)).all()
    for ring, same in (((0,), True), ((), False)):
        model = teacher("contrast", CALO, ring, standardise=True)
        turned = model(np.roll(CALO, 1, 1)).numpy()
        assert np.allclose(turned, model(CALO).numpy(), rtol=1e-4) == same


def test_a_classifier_reads_events_of_any_shape() -> None:
    for events in (CALO.reshape(300, 252), CALO[..., 0], CALO[:, :5, :3]):
        model = teacher("contrast", events, hidden=[])
        assert model(events).shape == (300,) and len(latents_of(model)) == 1


@pytest.mark.parametrize("combine", ["soft_maximum", "mean"])
def test_an_ensemble_is_its_members_logs_in_units_of_the_normals(
    combine: str, tmp_path: Path
) -> None:
    members = [{"architecture": "pca"}, {"architecture": "contrast", "standardise": True}]
    model = teacher("ensemble", CALO, of=members, combine=combine)
    model.get_layer("raw_score").set_weights([np.array([1.0, -2.0]), np.array([0.5, 3.0])])
    scores = keras.Model(model.input, [model.get_layer(f"{n}_raw_score").output for n in (1, 2)])
    logs = np.log(np.stack(scores(CALO), 1).astype(np.float64))
    units = (logs - [1.0, -2.0]) / [0.5, 3.0]
    expected = units.mean(1) if combine == "mean" else np.log(np.exp(units).sum(1))
    np.testing.assert_allclose(np.log(model(CALO)), expected, rtol=1e-4, atol=1e-5)
    assert sum(int(each.shape[-1]) for each in latents_of(model)) == 1 + 64
    # The first is fitted: it does not learn.
    assert not {"1_latent", "1_decoded"} & {w.name.split("/")[0] for w in model.trainable_weights}
    save_model(model, tmp_path / "teacher.keras")
    again = load_model(tmp_path / "teacher.keras")
    np.testing.assert_array_equal(again(CALO).numpy(), model(CALO).numpy())


def test_an_ensemble_has_members_and_nobody_else() -> None:
    for few in ([], [{"architecture": "pca"}]):
        with pytest.raises(ValueError, match="two members or more"):
            Teacher.model_validate({"architecture": "ensemble", "of": few})
    other = Teacher.model_validate({"architecture": "pca", "of": [{"architecture": "pca"}] * 2})
    assert other.of == [] and other.members == [other]


@pytest.mark.parametrize("architecture", ["cicada", "dense", "pca"])
def test_regions_with_bits_beside_their_counts(architecture: str) -> None:
    random = np.random.default_rng(1)
    events = random.integers(0, 2, (300, 18, 14, 3)).astype(np.float32)
    events[..., 0] = random.poisson(3, (300, 18, 14))
    model = teacher(architecture, events, (0,), standardise=True, square_root=1.0)
    assert model.get_layer("reconstruction").output.shape[1:] == (18, 14, 3)
    assert np.isfinite(model(events).numpy()).all()


def test_the_paper_s_teacher_says_what_fits_several_channels() -> None:
    with pytest.raises(UserError, match=r"one channel.*\(28, 28, 3\).*architecture: dense"):
        teacher("paper", np.zeros((9, 28, 28, 3), np.float32))
