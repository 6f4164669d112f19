"""Masking: its rules with certainty, its shares by counting."""

import numpy as np
import pytest

from nemo.collections.nlp.data.samples.masking import Masking
from nemo.collections.nlp.options.choices import MASKINGS
from nemo.utils.errors import UsageError

CLS, SEP, MASK = 2, 3, 4
WORDS = np.arange(5, 105)  # ids of ordinary tokens


def mask(ids, starts, probability=0.15, sample=0, epoch=0, **options):
    """One row: [CLS] tokens [SEP]; starts says of each token whether it begins a word."""
    ids = np.array([[CLS, *ids, SEP]])
    may_choose = ids > MASK
    starts_word = np.array([[True, *starts, True]], dtype=bool)
    masking = Masking(probability, MASK, WORDS, **options)
    masked, chosen = masking(ids, starts_word, may_choose, np.array([ids.size]), epoch, np.array([sample]))
    return masked[0], chosen[0]


def test_probability_one_chooses_all_but_special_tokens():
    masked, chosen = mask([10, 11, 12], [True, True, True], probability=1.0)
    assert chosen.tolist() == [False, True, True, True, False]
    assert masked[[0, -1]].tolist() == [CLS, SEP]


def test_the_number_counts_special_tokens_and_is_rounded():
    # 8 tokens + 2 special ones: 0.15 * 10 = 1.5 -> 2; 0.15 * 9 = 1.35 -> 1
    for sample in range(20):
        assert mask([9] * 8, [True] * 8, sample=sample)[1].sum() == 2
        assert mask([9] * 7, [True] * 7, sample=sample)[1].sum() == 1


def test_one_token_at_least_is_chosen():
    assert mask([9], [True], probability=0.01)[1].sum() == 1


def test_an_example_worked_out_by_hand():
    # [CLS] he play ##ed foot ##ball [SEP]: 0.34 * 7 = 2.38 -> 2 tokens. A word of two tokens fills that;
    # "he" leaves space for one more token, and no other word is that short.
    chosen = [mask([9, 10, 11, 12, 13], [1, 1, 0, 1, 0], probability=0.34, sample=s)[1] for s in range(60)]
    assert {tuple(np.flatnonzero(c)) for c in chosen} == {(1,), (2, 3), (4, 5)}
    # A span may have both. But it is cut to two tokens, and only between words.
    spans = [
        mask([9, 10, 11, 12, 13], [1, 1, 0, 1, 0], probability=0.34, sample=s, kind="span")[1]
        for s in range(60)
    ]
    assert {tuple(np.flatnonzero(c)) for c in spans} == {(1,), (2, 3), (4, 5)}
    # 0.5 * 7 = 3.5 -> 4 tokens: two words of two, or "he" and one of two, and nothing else.
    chosen = [mask([9, 10, 11, 12, 13], [1, 1, 0, 1, 0], probability=0.5, sample=s)[1] for s in range(60)]
    assert {tuple(np.flatnonzero(c)) for c in chosen} == {(1, 2, 3), (1, 4, 5), (2, 3, 4, 5)}


def test_words_are_chosen_whole_or_not_at_all():
    # Words of 2 tokens, 3 tokens may be chosen: one word fits, a second never does.
    for sample in range(50):
        _, chosen = mask([9] * 8, [True, False] * 4, probability=0.3, sample=sample)
        words = chosen[1:-1].reshape(4, 2)
        assert (words[:, 0] == words[:, 1]).all() and words[:, 0].sum() == 1


def test_a_word_that_is_too_long_is_skipped_for_one_that_fits():
    # Words of 3 and 1 tokens and space for 1: it always is the short one.
    for sample in range(30):
        assert mask([9, 9, 9, 9], [True, False, False, True], probability=0.1, sample=sample)[1][4]


def test_where_all_words_are_too_long_the_shortest_is_chosen():
    starts = [True, False, False, False, True, False, False]
    for sample in range(30):
        _, chosen = mask([9] * 7, starts, probability=0.1, sample=sample)
        assert np.flatnonzero(chosen).tolist() == [5, 6, 7]


def test_the_rest_of_a_cut_word_is_a_word_of_its_own():
    # "##x" after [CLS]: not glued to anything before it, and it can be chosen.
    chosen = [mask([9, 10], [False, True], probability=0.25, sample=s)[1] for s in range(40)]
    assert {tuple(np.flatnonzero(c)) for c in chosen} == {(1,), (2,)}


def test_a_word_does_not_go_on_behind_a_special_token():
    ids = np.array([[CLS, 9, SEP, 10, SEP]])
    masking = Masking(0.2, MASK, WORDS)
    places = set()
    for sample in range(40):
        _, chosen = masking(
            ids, np.array([[True, True, True, False, True]]), ids > MASK, np.array([5]), 0, np.array([sample])
        )
        places.add(tuple(np.flatnonzero(chosen[0])))
    assert places == {(1,), (3,)}


def test_tokens_can_be_chosen_instead_of_words():
    numbers = {
        mask([9] * 8, [True, False] * 4, probability=0.3, sample=s, kind="token")[1].sum() for s in range(20)
    }
    assert numbers == {3}


def test_a_row_never_has_more_predictions_than_it_may():
    starts = [True] * 8
    for sample in range(20):
        assert mask([9] * 8, starts, probability=0.9, sample=sample, max_predictions=3)[1].sum() == 3
        assert mask([9] * 8, starts, probability=0.2, sample=sample, max_predictions=3)[1].sum() == 2
    # No word fits, and the shortest is too long as well.
    assert not mask([9] * 6, [1, 0, 0, 1, 0, 0], max_predictions=2)[1].any()


def test_another_kind_or_number_is_refused():
    with pytest.raises(UsageError, match=r"unknown masking; found 'words', .*one of token, whole_word, span"):
        Masking(0.15, MASK, WORDS, "words")
    with pytest.raises(UsageError, match="max_predictions: out of range; found 0"):
        Masking(0.15, MASK, WORDS, max_predictions=0)


@pytest.mark.parametrize("kind", MASKINGS)
def test_a_row_without_candidates_gets_no_mask(kind):
    masked, chosen = mask([], [], kind=kind)
    assert masked.tolist() == [CLS, SEP] and not chosen.any()


def test_tokens_that_are_not_chosen_do_not_change():
    masked, chosen = mask([9, 10, 11, 12] * 10, [True] * 40)
    original = np.array([CLS, *[9, 10, 11, 12] * 10, SEP])
    np.testing.assert_array_equal(masked[~chosen], original[~chosen])


@pytest.fixture(scope="module")
def many():
    """4,000 rows of 128 tokens: [CLS] words of 1 to 4 pieces [SEP] padding."""
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 105, (4000, 128))
    lengths = rng.integers(20, 129, 4000)
    starts_word = rng.random(ids.shape) < 0.7
    position = np.arange(128)
    ids[:, 0] = CLS
    ids[position == lengths[:, None] - 1] = SEP
    ids[position >= lengths[:, None]] = 0
    return ids, starts_word, ids > MASK, lengths


@pytest.mark.parametrize("kind", MASKINGS)
def test_the_share_of_chosen_tokens_is_right(many, kind):
    ids, starts_word, may_choose, lengths = many
    _, chosen = Masking(0.15, MASK, WORDS, kind)(ids, starts_word, may_choose, lengths, 0, np.arange(4000))
    wanted = np.maximum(1, np.rint(lengths * 0.15))
    assert chosen.sum() == pytest.approx(wanted.sum(), rel=0.01)
    assert (chosen.sum(axis=1) <= wanted).all() and (chosen.sum(axis=1) >= 1).all()
    assert not chosen[~may_choose].any()


@pytest.mark.parametrize("kind", ["whole_word", "span"])
def test_no_word_is_split(many, kind):
    ids, starts_word, may_choose, lengths = many
    _, chosen = Masking(0.15, MASK, WORDS, kind)(ids, starts_word, may_choose, lengths, 0, np.arange(4000))
    goes_on = ~starts_word[:, 1:] & may_choose[:, 1:] & may_choose[:, :-1]
    np.testing.assert_array_equal(chosen[:, 1:][goes_on], chosen[:, :-1][goes_on])


@pytest.mark.parametrize("kind", MASKINGS)
def test_80_10_10_percent_of_chosen_tokens_are_masked_replaced_kept(many, kind):
    ids, starts_word, may_choose, lengths = many
    masked, chosen = Masking(0.15, MASK, WORDS, kind)(
        ids, starts_word, may_choose, lengths, 0, np.arange(4000)
    )
    shown, original = masked[chosen], ids[chosen]
    hidden = np.mean(shown == MASK)
    kept = np.mean(shown == original)
    # One replacement in a hundred is the original by chance.
    assert hidden == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1 + 0.1 / 100, abs=0.01)


def test_replacements_are_uniform_and_never_special(many):
    ids, starts_word, may_choose, lengths = many
    masked, chosen = Masking(0.5, MASK, WORDS)(ids, starts_word, may_choose, lengths, 0, np.arange(4000))
    replaced = masked[chosen & (masked != MASK) & (masked != ids)]
    assert replaced.min() == 5 and replaced.max() == 104
    counts = np.bincount(replaced)[5:]
    assert counts.std() < 1.5 * np.sqrt(counts.mean())


def spans_of(rows: int, length: int, probability: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Texts of words of one token -> lengths of the spans; and what stands in each, 0 for the same."""
    rng = np.random.default_rng(1)
    ids = rng.integers(200, 300, (rows, length))  # none of WORDS, so a token that is kept can be told
    everywhere = np.ones(ids.shape, bool)
    masking = Masking(probability, MASK, WORDS, "span")
    masked, chosen = masking(ids, everywhere, everywhere, np.full(rows, length), 0, np.arange(rows))
    shown = np.where(masked == ids, 0, masked)
    edges = np.diff(np.pad(chosen, ((0, 0), (1, 1))).astype(int), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    spans = [shown[row, a:b] for (row, a), (_, b) in zip(starts, stops, strict=True)]
    return np.array([len(span) for span in spans]), spans


def test_spans_have_the_lengths_of_the_paper():
    # Of 20,000 tokens 400 are chosen: about 105 spans, of which hardly two touch and one is cut short.
    lengths, _ = spans_of(50, 20_000, 0.02)
    assert len(lengths) > 4000
    assert lengths.mean() == pytest.approx(3.8, abs=0.15)
    shares = np.bincount(lengths, minlength=11)[1:11] / len(lengths)
    expected = 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)
    np.testing.assert_allclose(shares, expected, atol=0.02)
    assert np.mean(lengths > 10) < 0.03  # two that touch


def test_a_span_is_masked_replaced_or_kept_as_a_whole(many):
    _, spans = spans_of(4000, 500, 0.015)
    alike = [span for span in spans if len({_what_became_of(token) for token in span}) == 1]
    assert len(alike) > 0.98 * len(spans)  # the others are two that touch
    fates = np.array([_what_became_of(span[0]) for span in alike])
    for fate, share in (("hidden", 0.8), ("replaced", 0.1), ("kept", 0.1)):
        assert np.mean(fates == fate) == pytest.approx(share, abs=0.012)
    replaced = [span for span in alike if len(span) > 3 and _what_became_of(span[0]) == "replaced"]
    assert replaced and all(len(set(span.tolist())) > 1 for span in replaced)  # a token for each


def _what_became_of(token: int) -> str:
    return "kept" if token == 0 else "hidden" if token == MASK else "replaced"


def test_every_word_is_in_a_span_as_often_as_any_other():
    # Rows so short that most spans are cut, and more of them than are masked at once.
    ids = np.full((40_000, 31), 9)
    ids[:, 15] = SEP
    may_choose = ids != SEP
    masking = Masking(0.15, MASK, WORDS, "span")
    _, chosen = masking(ids, may_choose, may_choose, np.full(len(ids), 31), 0, np.arange(len(ids)))
    shares = chosen.mean(axis=0)[may_choose[0]]
    np.testing.assert_allclose(shares, 5 / 30, rtol=0.05)


def test_every_position_is_chosen_equally_often(many):
    ids, _, may_choose, lengths = many
    _, chosen = Masking(0.15, MASK, WORDS, "token")(
        ids, np.ones_like(may_choose), may_choose, lengths, 0, np.arange(4000)
    )
    shares = chosen[:, 1:20].mean(axis=0)
    np.testing.assert_allclose(shares, shares.mean(), atol=0.03)


@pytest.mark.parametrize("kind", MASKINGS)
def test_a_samples_masks_do_not_depend_on_its_batch(many, kind):
    ids, starts_word, may_choose, lengths = many
    masking = Masking(0.15, MASK, WORDS, kind)
    whole = masking(ids, starts_word, may_choose, lengths, 3, np.arange(4000))
    some = np.array([3999, 17, 5])
    part = masking(ids[some], starts_word[some], may_choose[some], lengths[some], 3, some)
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[some], b)


def test_samples_epochs_and_seeds_differ(many):
    row = [values[:1].repeat(2, axis=0) for values in many]
    masks = [
        Masking(0.15, MASK, WORDS, seed=seed)(*row, epoch, np.array([0, 1]))[1].tobytes()
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len(set(masks)) == 9
    first, second = Masking(0.15, MASK, WORDS)(*row, 0, np.array([0, 1]))[1]
    assert (first != second).any()
