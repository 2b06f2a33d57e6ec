"""Priors of need rates: one level and two, over many groups at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from tests import reference_classrooms as reference
from transforms import priors, two_level
from transforms.intervals import p_full_class_above
from transforms.priors import ClassCounts

VECTORS = Path(__file__).parent / "data" / "vectors"
TEN = json.loads((VECTORS / "10_beta_binomial.json").read_text())
SEVENTEEN = json.loads((VECTORS / "17_two_level.json").read_text())
EVEN = TEN["homogeneous_case"]
Y, N = np.array(TEN["y"] + EVEN["y"]), np.array(TEN["n"] + EVEN["n"])
BEGINS = [0, len(TEN["y"])]


def counted(y, n, enrolled=None, tau=0.2):
    y, n = np.atleast_1d(np.asarray(y)), np.atleast_1d(np.asarray(n))
    enrolled = n if enrolled is None else np.atleast_1d(np.asarray(enrolled))
    return ClassCounts(y, n, enrolled, np.floor(enrolled * tau + 1e-9).astype(int), np.full(len(y), tau))


def schools(groups, tau=0.2, excess=0.1):
    """Groups of schools of classes `(y, n)` as the fit reads them."""
    classes = [count for group in groups for school in group for count in school]
    sizes = [len(school) for group in groups for school in group]
    counts = counted(*zip(*classes, strict=True), tau=tau)
    of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    ends = np.full(len(groups), tau), np.full(len(groups), excess)
    return two_level.Classes(*counts[:4], np.repeat(np.arange(len(sizes)), sizes), of, *ends)


def made(rng, groups, sizes=(3, 7)):
    """Groups of random schools, spread in every way the bounds allow."""
    found = []
    for _ in range(groups):
        mean, between, within = rng.uniform(0.05, 0.5), rng.choice([3, 10, 40, 150]), rng.choice([5, 20, 60, 200])
        group = []
        for m in np.clip(rng.beta(mean * between, (1 - mean) * between, rng.integers(*sizes)), 1e-3, 1 - 1e-3):
            n = rng.integers(14, 29, rng.integers(1, 4))
            y = rng.binomial(n, rng.beta(m * within, (1 - m) * within, len(n)))
            group.append(list(zip(y.tolist(), n.tolist(), strict=True)))
        found.append(group)
    return found


# Vector 10


def test_moments_match_the_vector():
    found = priors.moments(Y, N, BEGINS)
    for place, expected in enumerate((TEN["moments"], EVEN["moments"])):
        assert found.mean[place] == pytest.approx(expected["mu"], abs=1e-8)
        assert found.spread[place] == pytest.approx(expected["S"], abs=1e-8)
        assert found.correlation[place] == pytest.approx(expected["rho"], abs=1e-8)
    assert found.strength[0] == pytest.approx(TEN["moments"]["M"], abs=1e-8)
    assert np.isinf(found.strength[1])


def test_the_one_level_fit_matches_the_vector():
    found = priors.fit(Y, N, BEGINS)
    for place, expected in enumerate((TEN["mle"], EVEN["mle"])):
        assert found.mean[place] == pytest.approx(expected["mu"], abs=1e-5)
        assert found.strength[place] == pytest.approx(expected["M"], rel=1e-4)
        assert found.loglik[place] == pytest.approx(expected["loglik"], abs=1e-8)
        assert found.at_bound[place] == expected["at_bound"]


def test_posteriors_under_the_fit_match_the_vector():
    fitted, y, n = priors.fit(TEN["y"], TEN["n"], [0]), np.array(TEN["y"]), np.array(TEN["n"])
    for tau in (0.1, 0.2, 0.5):
        found = priors.posterior(counted(y, n, tau=tau), fitted.mean, fitted.strength)
        assert found.p_above == pytest.approx([c[f"p_gt_{tau * 100:.0f}"] for c in TEN["classes"]], abs=1e-5)
    assert found.mean == pytest.approx([c["shrunk_mean"] for c in TEN["classes"]], abs=1e-5)
    weights = priors.reliability(n, fitted.strength)
    assert weights == pytest.approx([c["weight_on_raw"] for c in TEN["classes"]], abs=1e-5)


def test_tarones_z_matches_the_vector():
    found = priors.tarone(Y, N, BEGINS)
    assert found == pytest.approx([TEN["tarone"]["z"], EVEN["tarone"]["z"]], abs=1e-8)
    assert stats.norm.sf(found) == pytest.approx(
        [TEN["tarone"]["p_one_sided"], EVEN["tarone"]["p_one_sided"]], abs=1e-8
    )


def test_full_bayes_matches_the_vector_and_knows_no_other_group():
    found, mean, log_strength = priors.full_bayes(counted(Y, N), BEGINS)
    assert found.p_above[: BEGINS[1]] == pytest.approx(TEN["full_bayes"]["p_gt_20"], abs=1e-8)
    assert mean[0] == pytest.approx(TEN["full_bayes"]["e_mu"], abs=1e-8)
    assert log_strength[0] == pytest.approx(TEN["full_bayes"]["e_log_M"], abs=1e-8)


def test_a_fixed_prior_matches_the_vector():
    fixed = TEN["fixed_prior_posteriors"]
    strength = fixed["alpha"] + fixed["beta"]
    for row in fixed["rows"]:
        for tau in (0.1, 0.2):
            found = priors.posterior(counted(row["y"], row["n"], tau=tau), fixed["alpha"] / strength, strength)
            assert found.mean[0] == pytest.approx(row["mean"], abs=1e-8)
            assert found.p_above[0] == pytest.approx(row[f"p_gt_{tau * 100:.0f}"], abs=1e-8)


@pytest.mark.parametrize("case", TEN["critical_counts_posterior_090"])
def test_the_count_a_flag_needs_and_its_power_match_the_vector(case):
    y = np.arange(case["n"] + 1)
    found = priors.posterior(counted(y, np.full(len(y), case["n"])), case["mu"], case["M"]).p_above
    needed = int(np.argmax(found >= 0.90))
    assert needed == case["y_star"]
    for rate, power in case["power"].items():
        assert stats.binom.sf(needed - 1, case["n"], float(rate)) == pytest.approx(power, abs=1e-8)


# Vector 11


@pytest.mark.parametrize("case", json.loads((VECTORS / "11_coverage_bounds.json").read_text())["cases"])
def test_the_untested_at_random_match_the_vector(case):
    y, n, enrolled = case["y"], case["n_tested"], case["n_roster"]
    a, b = 2.4 + y, 9.6 + n - y
    found = p_full_class_above(y, n, enrolled, enrolled // 5, a, b)
    assert found == pytest.approx(case["p_full_class_rate_gt_20"], abs=1e-8)
    at_least = [float(p_full_class_above(y, n, enrolled, y + k - 1, a, b)) for k in range(enrolled - n + 2)]
    assert -np.diff(at_least) == pytest.approx(case["predictive_pmf_untested"], abs=1e-8)


# Vector 17


def seventeen():
    names = [row["school"] for row in SEVENTEEN["rows"]]
    return schools([[[(r["y"], r["n"]) for r in SEVENTEEN["rows"] if r["school"] == s] for s in dict.fromkeys(names)]])


@pytest.mark.parametrize(("kind", "tolerance"), [("fixed", 1e-5), ("mle", 1e-4)])
def test_two_levels_match_the_vector(kind, tolerance):
    expected = SEVENTEEN[kind]
    given = ([expected[name]] for name in ("mu", "phi_class", "phi_school"))
    fitted, found = two_level.infer(seventeen(), *given) if kind == "fixed" else two_level.fit(seventeen())
    assert fitted.mean[0] == pytest.approx(expected["mu"], rel=1e-2)
    assert fitted.class_strength[0] == pytest.approx(expected["phi_class"], rel=1e-2)
    assert fitted.school_strength[0] == pytest.approx(expected["phi_school"], rel=1e-2)
    assert fitted.loglik[0] == pytest.approx(expected["loglik"], abs=tolerance)
    assert fitted.nodes[0] >= 64 and not fitted.at_bound[0]
    for values, rows, name in (
        (found.school_mean, "schools", "mean"),
        (found.school_p_above, "schools", "p_gt_tau"),
        (found.mean, "classes", "mean"),
        (found.p_above, "classes", "p_gt_tau"),
        (found.p_above_school, "classes", "p_gt_school"),
        (found.p_excess, "classes", "p_gt_school_plus_10"),
    ):
        assert values == pytest.approx([row[name] for row in expected[rows]], abs=tolerance)


# Two levels against a slow reference


HARD = [
    [[(0, 20), (0, 24)], [(0, 22)], [(0, 18), (0, 25), (0, 21)]],
    [[(0, 20), (0, 24)], [(0, 22)], [(9, 18), (0, 25), (2, 21)]],
    [[(20, 20), (24, 24)], [(15, 22)], [(18, 18), (2, 25)]],
    [[(5, 24), (5, 25)], [(5, 24), (4, 23)], [(5, 26), (5, 25), (5, 24)]],
    [[(40, 200), (35, 180), (60, 210)], [(90, 200), (80, 190)], [(10, 220), (14, 150)]],
]


@pytest.mark.parametrize(
    "group", [*HARD, *(pytest.param(each, marks=pytest.mark.slow) for each in made(np.random.default_rng(5), 5))]
)
def test_posteriors_agree_with_adaptive_quadrature(group):
    fitted, found = two_level.fit(schools([group]))
    parameters = (fitted.mean[0], fitted.class_strength[0], fitted.school_strength[0])
    begin = 0
    for place, counts in enumerate(group):
        expected = reference.two_level_posteriors(counts, *parameters, 0.2, 0.1)
        end = begin + len(counts)
        assert found.school_mean[place] == pytest.approx(expected["school_mean"], abs=2e-6)
        assert found.school_p_above[place] == pytest.approx(expected["school_p_above"], abs=2e-6)
        for name in ("mean", "p_above", "p_above_school"):
            assert getattr(found, name)[begin:end] == pytest.approx(expected[name], abs=2e-6)
        # Where everybody is in need, P(p > m + .10) has a cliff at m = .90 that nodes only come near.
        near = 5e-3 if any(y == n for y, n in counts) else 2e-6
        assert found.p_excess[begin:end] == pytest.approx(expected["p_excess"], abs=near)
        begin = end


@pytest.mark.slow
@pytest.mark.parametrize("group", made(np.random.default_rng(6), 2, (3, 4)))
def test_no_slow_search_from_elsewhere_finds_likelier_parameters(group):
    fitted, _ = two_level.fit(schools([group]))
    choices = sum(
        special.gammaln(n + 1) - special.gammaln(y + 1) - special.gammaln(n - y + 1) for each in group for y, n in each
    )
    best = np.array(
        [special.logit(fitted.mean[0]), np.log(fitted.school_strength[0]), np.log(fitted.class_strength[0])]
    )
    assert -reference.two_level_loss(best, group) + choices == pytest.approx(fitted.loglik[0], abs=1e-6)
    for start in ((-2.0, 1.0, 4.5), (-0.5, 4.5, 1.0)):
        _, loglik = reference.two_level(group, start)
        assert loglik + choices <= fitted.loglik[0] + 1e-5


@pytest.mark.parametrize("point", [(-4.0, 0.5, 2.0), (1.5, 2.0, 4.0), (-6.0, 0.0, 0.0)])
def test_the_derivatives_are_those_of_the_value_even_where_the_prior_lies_beyond_every_node(point):
    likelihood = two_level._Likelihood(schools([HARD[0], HARD[1], HARD[2]]))
    point = np.tile(point, (3, 1))
    _, gradient, hessian = likelihood.evaluate(point, 160)
    for place in range(3):
        step = np.zeros_like(point)
        step[:, place] = 1e-4
        ahead, behind = likelihood.evaluate(point + step, 160), likelihood.evaluate(point - step, 160)
        np.testing.assert_allclose(gradient[:, place], (ahead[0] - behind[0]) / 2e-4, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(hessian[:, place], (ahead[1] - behind[1]) / 2e-4, atol=1e-4, rtol=1e-4)


# Properties


def test_a_group_does_not_depend_on_the_groups_beside_it():
    groups = made(np.random.default_rng(7), 9) + HARD
    together, said = two_level.fit(schools(groups))
    begins = np.cumsum([0, *(sum(map(len, group)) for group in groups)])
    for place, group in enumerate(groups):
        alone, said_alone = two_level.fit(schools([group]))
        for one, other in zip(together, alone, strict=True):
            assert one[place] == other[0]
        for name in ("mean", "p_above", "p_above_school", "p_excess", "p_above_if_all_tested"):
            mine = getattr(said, name)[begins[place] : begins[place + 1]]
            np.testing.assert_array_equal(mine, getattr(said_alone, name))


def test_one_level_of_a_group_does_not_depend_on_the_groups_beside_it():
    alone = priors.fit(EVEN["y"], EVEN["n"], [0])
    assert [each[1] for each in priors.fit(Y, N, BEGINS)] == [each[0] for each in alone]


def one_more(groups, rng):
    """The same groups with one student above the cut added to one class of each; where that class stands."""
    more, places, begin = [], [], 0
    for group in groups:
        classes = [(s, c) for s, school in enumerate(group) for c in range(len(school))]
        chosen = int(rng.integers(len(classes)))
        copy = [list(school) for school in group]
        school, place = classes[chosen]
        y, n = copy[school][place]
        copy[school][place] = (y, n + 1)
        more.append(copy)
        places.append(begin + chosen)
        begin += len(classes)
    return more, np.array(places)


@pytest.mark.slow
def test_refitted_one_more_student_above_the_cut_hardly_raises_a_probability():
    rng = np.random.default_rng(8)
    groups = made(rng, 500)
    more, places = one_more(groups, rng)
    before, after = two_level.fit(schools(groups))[1], two_level.fit(schools(more))[1]
    assert (after.p_above[places] - before.p_above[places]).max() < 0.01


def test_refitted_with_one_level_as_well():
    rng = np.random.default_rng(9)
    groups = made(rng, 500)
    more, places = one_more(groups, rng)
    found = []
    for each in (groups, more):
        classes = schools(each)
        of = classes.group[classes.school]
        fitted = priors.fit(classes.y, classes.n, np.searchsorted(of, np.arange(len(each))))
        found.append(priors.posterior(counted(classes.y, classes.n), fitted.mean[of], fitted.strength[of]).p_above)
    assert (found[1] - found[0])[places].max() < 0.01


def test_nothing_in_gives_nothing_out():
    none = np.empty(0, np.int64)
    assert len(priors.fit(none, none, none).mean) == 0
    fitted, found = two_level.fit(two_level.Classes(*(none,) * 6, np.empty(0), np.empty(0)))
    assert len(fitted.mean) == len(found.p_above) == 0
