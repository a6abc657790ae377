"""Which captioner people prefer: no winner by chance, a winner that is one, people and not their clicks counted."""

import numpy as np
import pytest

from captioning import cli
from captioning.data.feedback import Feedback, FeedbackStore
from captioning.evaluation import people


def said(arm, person, rating=None, correction="", through_split=True):
    options = {"arm": arm, "person": person} if through_split else {}
    return Feedback(0, "2026-01-01T00:00:00+00:00", "0" * 64, arm, "a dog", options, rating, correction, "")


def many(arm, ratings):
    return [said(arm, f"{arm}{number}", rating) for number, rating in enumerate(ratings)]


def test_a_clear_preference_is_told_with_its_interval():
    text = people.report(many("old", [2, 3, 2, 1, 2, 3, 2]) + many("new", [5, 4, 5, 5, 4]))
    assert "new against old" in text
    assert "new is better by rating." in text
    assert people.report(many("old", [5, 4, 5, 5, 4, 5]) + many("new", [2, 3, 2, 1])).endswith(
        "old is better by rating."
    )


@pytest.mark.parametrize(("old", "new"), [([4], [1]), ([5, 5, 5], [1, 1, 1]), ([3, 4, 2, 5], [4, 3, 5, 2])])
def test_too_few_people_or_no_difference_make_no_winner(old, new):
    text = people.report(many("old", old) + many("new", new))
    assert "No winner: by rating, the difference may be chance." in text


def test_one_person_who_rates_often_is_one_person():
    eager = [said("new", "ada", 5) for _ in range(200)]
    text = people.report(many("old", [2, 2, 3, 2, 1, 2]) + eager)
    assert "No winner" in text
    [new] = [arm for arm in people.arms_of(eager)]
    assert (new.entries, len(new.opinions), new.opinions[0].rating) == (200, 1, 5.0)


def test_intervals_hold_the_difference_and_rarely_leave_zero_out_by_chance(monkeypatch):
    monkeypatch.setattr(people, "PERMUTATIONS", 199)
    monkeypatch.setattr(people, "STEPS", 3)
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(120):
        ours, theirs = (rng.integers(1, 6, size=count).astype(float) for count in (5, 20))
        found = people.difference(ours, theirs)
        assert found.low <= found.value <= found.high
        wrong += found.is_certain
    assert wrong <= 13  # 6 are expected at 5 %; of 200 such tests fewer than one finds more than 13


def test_a_permutation_interval_agrees_with_welchs_where_there_are_many():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(3.5, 0.5, 60), rng.normal(3.0, 0.7, 80)
    found = people.difference(ours, theirs)
    error = np.sqrt(ours.var(ddof=1) / 60 + theirs.var(ddof=1) / 80)
    assert found.low == pytest.approx(found.value - 1.98 * error, abs=0.03)
    assert found.high == pytest.approx(found.value + 1.98 * error, abs=0.03)


def test_people_who_all_agree_are_few_all_the_same():
    found = people.difference(np.full(4, 5.0), np.full(4, 3.0))
    assert found.is_certain
    assert found.high - found.low > 1
    assert not people.difference(np.full(3, 5.0), np.full(3, 1.0)).is_certain
    alike = people.difference_of_shares(np.ones(4), np.ones(9))
    assert (alike.value, alike.is_certain) == (0, False)
    assert alike.high - alike.low > 0.5


def test_newcombes_interval_is_that_of_his_paper():
    found = people.difference_of_shares(np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32]))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_wilsons_interval_is_that_of_the_textbook():
    assert people.wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert people.wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_several_arms_share_one_level_of_error():
    text = people.report(many("a", [3, 3, 4, 3]) + many("b", [3, 4, 3]) + many("c", [4, 3, 3]))
    assert text.count("97.5 % between") == 4


def test_corrections_decide_where_nobody_rates():
    fixed = [said("old", f"person {number}", correction="a cat") for number in range(8)]
    fine = [said("new", f"other {number}", 5) for number in range(8)]
    text = people.report(fixed + fine)
    assert "new is better by left uncorrected." in text


def test_feedback_of_a_page_without_a_split_is_told_apart():
    found = people.report([said("a", "", 5, through_split=False), said("b", "", 3, through_split=False)])
    assert found.startswith("There was no split: people chose the captioner")
    mixed = many("a", [3, 4]) + many("b", [4, 3]) + [said("a", "", 1, through_split=False)]
    assert people.report(mixed).startswith("4 of 5 entries are on captions of the split.")


def test_the_command_reads_databases_and_refuses_what_it_cannot(tmp_path, capsys):
    picture = np.zeros((8, 8, 3), np.uint8)
    stores = [FeedbackStore(tmp_path / name) for name in ("one.db", "two.db")]
    for number in range(10):
        arm = "old" if number % 2 else "new"
        options = {"arm": arm, "person": str(number)}
        stores[number % 3 == 0].add(picture, bundle=arm, caption="a", options=options, rating=1 if number % 2 else 5)
    assert cli.main(["compare", "--feedback", *(str(store.path) for store in stores)]) == 0
    assert "old against new" in (told := capsys.readouterr().out) or "new against old" in told
    assert "new is better by rating." in told
    assert cli.main(["compare", "--feedback", str(tmp_path / "none.db")]) == 2
    assert capsys.readouterr().err.startswith(f"captioning: There is no {tmp_path / 'none.db'}; give the database")
    assert not (tmp_path / "none.db").exists()
    FeedbackStore(tmp_path / "empty.db")
    assert cli.main(["compare", "--feedback", str(tmp_path / "empty.db")]) == 2
    assert "The feedback is empty" in capsys.readouterr().err
    for flags in (["one"], [], ["one", "two", "--feedback", "x.db"]):
        with pytest.raises(SystemExit):
            cli.main(["compare", *flags])
