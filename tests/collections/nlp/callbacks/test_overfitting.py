from nemo.collections.nlp.callbacks.overfitting import Overfitting


def verdicts(held_out, training):
    watcher = Overfitting()
    return [
        watcher.since(10 * n, h, t) for n, (h, t) in enumerate(zip(held_out, training, strict=True), start=1)
    ]


def test_overfitting_is_reported_with_the_step_it_began_after():
    assert verdicts([5.0, 4.0, 4.2, 4.4], [5.0, 4.0, 3.0, 2.0]) == [None, None, None, 20]


def test_a_worse_model_is_not_overfitting():
    assert verdicts([4.0, 5.0, 6.0], [4.0, 5.0, 6.0]) == [None] * 3


def test_noise_is_not_overfitting():
    assert verdicts([4.0, 4.05, 4.02, 4.08], [4.0, 3.9, 3.8, 3.7]) == [None] * 4
    assert verdicts([4.0, 4.2, 3.9, 4.2], [4.0, 3.9, 3.8, 3.7]) == [None] * 4
