"""Baselines against their formulas, written out event by event with nothing of l1kd in them."""

import itertools
import math

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from l1kd.core.fixed_point import FixedPoint
from l1kd.data.dataset import Dataset, Sample, Signal
from l1kd.evaluation import baselines as module
from l1kd.evaluation.baselines import BASELINES, SEEDS, fit_baselines, menu, plain, rarity
from l1kd.evaluation.metrics import band

SHAPE = (6, 5, 1)
RING = np.array([6.0, 3.0, 2.0, 3.0, 6.0])


@pytest.fixture
def events():
    return np.random.default_rng(1).integers(0, 50, (9, 3, 4)).astype(np.float32)


def test_every_plain_baseline_is_its_formula(events):
    mean = np.arange(12.0).reshape(3, 4)
    deviation = np.full((3, 4), 2.0)
    functions = plain(mean, deviation)
    for index, event in enumerate(events.astype(np.float64)):
        z = (event - mean) / 2
        expected = {
            "sum": event.sum(),
            "max": event.max(),
            "top4": sum(sorted(event.ravel())[-4:]),
            "mean_square": (event**2).mean(),
            "std_mean_square": (z**2).mean(),
            "std_fourth": (z**4).mean(),
        }
        assert functions.keys() == expected.keys() == set(itertools.islice(BASELINES, 6))
        for name, function in functions.items():
            assert function(events)[index] == pytest.approx(expected[name])


def test_scores_do_not_depend_on_the_chunks(events):
    for function in plain(np.zeros((3, 4)), np.ones((3, 4))).values():
        np.testing.assert_array_equal(
            function(events), np.concatenate([function(events[:5]), function(events[5:])])
        )


def test_an_input_that_never_varied_does_not_divide_by_zero(events):
    deviation = np.ones((3, 4))
    deviation[0, 0] = 0
    for function in plain(np.zeros((3, 4)), deviation).values():
        assert np.isfinite(function(events)).all()


def test_fewer_than_four_inputs():
    assert plain(np.zeros(2), np.ones(2))["top4"](np.array([[1, 2]], np.float32)) == [3]


def _calorimeter(random, count, jets=0.0):
    """Pile-up of a common strength, and a jet of one region or two."""
    strength = random.uniform(0.5, 2, (count, 1, 1, 1))
    events = random.poisson(strength * RING[:, None] * np.ones((6, 1, 1)), (count, *SHAPE))
    where = random.integers(0, 6, count), random.integers(0, 5, count)
    events[np.arange(count), where[0], where[1], 0] += random.poisson(jets, count)
    events[np.arange(count), (where[0] + 1) % 6, where[1], 0] += random.poisson(jets / 3, count)
    return events.astype(np.float32)


def _dataset(*, signals=True):
    random = np.random.default_rng(5)
    sizes = {"train": 3_000, "val": 500, "test": 200}
    samples = {n: Sample.of(n, _calorimeter(random, size)) for n, size in sizes.items()}
    halves = [Sample.of("jets", _calorimeter(random, 300, jets=25)) for _ in range(2)]
    anomalies = {"jets": Signal(*halves)} if signals else {}
    grid = FixedPoint(11, 11)
    return Dataset(**samples, signals=anomalies, grid=grid, standardise_axes=(0,))


@pytest.fixture(scope="module")
def dataset():
    return _dataset()


@pytest.fixture(scope="module")
def fitted(dataset):
    return fit_baselines(dataset)


def _subtracted(event, ring):
    """x - rho ring, of (6, 5) counts."""
    ratios = sorted(event[phi, eta] / ring[eta] for phi in range(6) for eta in range(5))
    rho = (ratios[14] + ratios[15]) / 2
    return [[event[phi, eta] - rho * ring[eta] for eta in range(5)] for phi in range(6)]


def _windows(above):
    found = {}
    for phi, eta in itertools.product(range(6), range(5)):
        around = itertools.product((phi - 1, phi, phi + 1), (eta - 1, eta, eta + 1))
        found[phi, eta] = sum(above[p % 6][e] for p, e in around if 0 <= e < 5)
    return found


def test_pile_up_subtracted_sums_and_windows_are_their_formulas(dataset, fitted):
    ring = dataset.train.events().astype(np.float64).mean((0, 1))[:, 0]
    test = dataset.signals["jets"].test.events()[:20]
    for index, event in enumerate(test[..., 0].astype(np.float64)):
        above = _subtracted(event, ring)
        flat = sorted(itertools.chain(*above))
        cuts = {name: fitted[name][1]["cut"] for name in ("pus_above", "ht")}
        expected = {
            "pus_top4": sum(flat[-4:]),
            "pus_top16": sum(flat[-16:]),
            "pus_above": sum(x for x in flat if x > cuts["pus_above"]),
            "ht": sum(x for x in _windows(above).values() if x > cuts["ht"]),
        }
        for name, value in expected.items():
            assert fitted[name][0](test)[index] == pytest.approx(value, abs=1e-9)


def test_two_jets_have_no_region_in_common():
    random = np.random.default_rng(2)
    counts = random.normal(0, 3, (40, 8, 7))
    found = module.two_jets(module.windows(counts))
    for index in range(40):
        sums = {}
        for phi, eta in itertools.product(range(8), range(7)):
            sides = range(max(eta - 1, 0), min(eta + 2, 7))
            cells = {((phi + d) % 8, e) for d in (-1, 0, 1) for e in sides}
            sums[frozenset(cells)] = sum(counts[index][cell] for cell in cells)
        first = max(sums, key=sums.get)
        # Windows, also those that lose a column at the end of eta, share a region or do not.
        centre = [key for key in sums if not key & first]
        assert found[0, index] == pytest.approx(sums[first])
        beside = max([sums[key] for key in centre], default=0)
        assert found[1, index] == pytest.approx(max(beside, 0))


def test_pca_and_mahalanobis_are_scikit_learns(dataset, fitted):
    def units(events):
        return np.sqrt(events.reshape(len(events), -1) + 1.0)

    train, test = units(dataset.train.events()), dataset.test.events()
    for name in ("pca", "pca_top16"):
        score, settings = fitted[name]
        pca = PCA(int(settings["components"]), svd_solver="full").fit(train)
        residual = units(test) - pca.inverse_transform(pca.transform(units(test)))
        expected = {
            "pca": (residual**2).mean(1),
            "pca_top16": np.sort(residual, axis=1)[:, -16:].sum(1),
        }
        np.testing.assert_allclose(score(test), expected[name], rtol=1e-4)
    expected = LedoitWolf().fit(train).mahalanobis(units(test)) / 30
    np.testing.assert_allclose(fitted["mahalanobis"][0](test), expected, rtol=1e-4)


def test_what_is_tuned_is_the_best_of_its_candidates_on_validation_halves(dataset, fitted):
    ring = dataset.train.events().astype(np.float64).mean((0, 1))[:, 0]
    normals = np.concatenate([dataset.train.events(), dataset.val.events()])[..., 0]
    signal = dataset.signals["jets"].val.events()[..., 0]
    above = [[_subtracted(e, ring) for e in part.astype(np.float64)] for part in (normals, signal)]
    found = {}
    for candidate in module._CUTS:
        cut = candidate["cut"]
        sums = [(np.where(np.array(x) > cut, x, 0)).sum((1, 2)) for x in above]
        found[cut] = band(*sums)
    assert len(set(found.values())) > 5
    assert found[fitted["pus_above"][1]["cut"]] == pytest.approx(max(found.values()))


def test_turning_an_event_in_phi_changes_no_score_of_its_regions(dataset, fitted):
    test = dataset.signals["jets"].test.events()
    turned = np.roll(test, 2, axis=1)
    for name in ("pus_top4", "pus_top16", "pus_above", "ht", "menu"):
        score = fitted[name][0]
        np.testing.assert_allclose(score(turned), score(test), atol=1e-9)


def test_more_pile_up_alone_is_nothing(dataset, fitted):
    """An event that is a multiple of the ring means has no region above its pile-up."""
    ring = dataset.train.events().astype(np.float64).mean((0, 1))[:, 0]
    quiet = (3 * ring[:, None] * np.ones(SHAPE)).astype(np.float32)[None]
    for name in ("pus_top4", "pus_top16", "pus_above", "ht"):
        assert fitted[name][0](quiet)[0] == pytest.approx(0, abs=1e-4)


def test_scores_of_a_chunk_are_remembered_for_that_chunk_alone(dataset, fitted):
    assert fitted.keys() == BASELINES.keys()
    first, second = dataset.test.events()[:50], dataset.test.events()[50:120]
    for score, _ in fitted.values():
        one, two = score(first), score(second)
        np.testing.assert_allclose(score(np.concatenate([first, second])), [*one, *two], atol=1e-9)
        np.testing.assert_array_equal(score(first), one)


def test_without_signals_the_first_settings_are_taken():
    found = fit_baselines(_dataset(signals=False))
    assert found["pus_above"][1] == {"cut": 20}
    assert found["menu"][1] == dict.fromkeys(SEEDS, 0.25)
    assert np.isfinite(found["menu"][0](_dataset().test.events())).all()


def test_inputs_of_no_rings_have_the_plain_baselines_alone():
    flat = Sample.of("x", np.random.default_rng(0).random((50, 4)).astype(np.float32))
    found = fit_baselines(Dataset(flat, flat, flat, {}, FixedPoint(8, 1)))
    assert list(found) == list(itertools.islice(BASELINES, 6))


def test_rarity_is_the_log_of_the_share_of_normals():
    normal = np.random.default_rng(3).exponential(2.0, 200_000)
    found = rarity(normal)(np.array([1.0, 4.0, 10.0, 40.0]))
    # Of an exponential, straight also where no normal is left.
    np.testing.assert_allclose(found, [0.5, 2, 5, 20], rtol=0.05)
    tied = rarity(np.array([0.0] * 900 + [1.0] * 100))
    assert tied(np.array([0.0, 1.0]))[0] == 0
    assert tied(np.array([1.0]))[0] == pytest.approx(math.log(10), rel=0.2)
    below, at, above = rarity(np.zeros(10))(np.array([-1.0, 0.0, 5.0]))
    assert below == at == 0 < above < np.inf


def test_a_menu_accepts_what_a_seed_accepts_at_its_share_of_the_rate():
    random = np.random.default_rng(4)
    normal = random.exponential(1, (4, 50_000))
    shares = dict(zip(SEEDS, (0.5, 0.25, 0.25, 0.0), strict=True))
    levels = np.stack([rarity(own)(own) for own in normal])
    score = menu(levels, **shares)
    rate = 1e-2
    accepted = score >= -math.log(rate)
    cuts = [np.quantile(own, 1 - share * rate) for own, share in zip(normal, (0.5, 0.25, 0.25))]  # noqa: B905
    by_seeds = np.any([own >= cut for own, cut in zip(normal, cuts)], axis=0)  # noqa: B905
    assert np.mean(accepted) == pytest.approx(rate, rel=0.05)
    assert np.sum(accepted != by_seeds) < 0.1 * np.sum(by_seeds)
    # A seed without a share decides nothing.
    louder = levels.copy()
    louder[3] += 100
    np.testing.assert_array_equal(menu(louder, **shares), score)


def test_bits_beside_counts_do_not_change_a_calorimeter_s_baselines():
    random = np.random.default_rng(5)

    def of(sample):
        bits = random.integers(0, 2, (len(sample), *SHAPE[:2], 2)).astype(np.float32)
        return Sample.of(sample.name, np.concatenate([sample.events(), bits], axis=-1))

    counts = _dataset()
    samples = {name: of(getattr(counts, name)) for name in ("train", "val", "test")}
    signals = {n: Signal(of(own.val), of(own.test)) for n, own in counts.signals.items()}
    grid, axes = counts.grid, counts.standardise_axes
    several = Dataset(**samples, signals=signals, grid=grid, standardise_axes=axes)
    plain_ones = set(itertools.islice(BASELINES, 6))
    one, other = fit_baselines(counts), fit_baselines(several)
    assert one.keys() == other.keys() > plain_ones
    for name in one.keys() - plain_ones:
        assert one[name][1] == other[name][1]
        expected = one[name][0](counts.test.events())
        np.testing.assert_allclose(other[name][0](several.test.events()), expected)
