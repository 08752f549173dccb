"""The figures of pairs: areas are weights, lines are values, bars are shares."""

import matplotlib
import numpy as np
import pytest

from probseq import plots
from probseq.errors import InputError
from probseq.plots.style import PALETTE
from probseq.transduction import PairAlignment, WordComponents, length_bins

SOURCE, TARGET = ["c", "a", "t", "<end>"], ["K", "AE", "<end>"]
WEIGHTS = np.array([[0.7, 0.2, 0.1, 0.0], [0.05, 0.9, 0.05, 0.0], [0.0, 0.0, 0.25, 0.75]])
ALIGNMENTS = [PairAlignment("attention", WEIGHTS), PairAlignment("align", WEIGHTS, np.array([0, 1, 3]))]
WORDS = [
    WordComponents("tomato", ["T OW", "T AA"], np.array([0.5, 0.3, 0.2]), np.array([[0.8, 0.1, 0.1], [0.1, 0.9, 0.0]])),
    WordComponents("$a_b$", ["EY"], np.array([0.2, 0.2, 0.6]), np.array([[0.0, 0.0, 1.0]])),
]


@pytest.mark.parametrize("width", [8.5, 3.75])
def test_areas_are_weights_and_the_path_is_drawn(width):
    before = dict(matplotlib.rcParams)
    figure = plots.plot_alignments(ALIGNMENTS, SOURCE, TARGET, width)
    assert dict(matplotlib.rcParams) == before
    for axes, one, kind in zip(figure.axes, ALIGNMENTS, ("deterministic", "stochastic"), strict=True):
        squares = axes.collections[0]
        drawn = {tuple(at): size for at, size in zip(squares.get_offsets().tolist(), squares.get_sizes(), strict=True)}
        expected = {(s, t): WEIGHTS[t, s] for t in range(3) for s in range(4) if WEIGHTS[t, s] > 0}
        assert drawn.keys() == expected.keys()
        areas = np.array([drawn[at] / expected[at] for at in expected])
        np.testing.assert_allclose(areas, areas[0])
        assert matplotlib.colors.to_hex(squares.get_facecolor()[0]) == PALETTE[kind]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "a", "t", "⊣"]
        assert len(axes.lines) == (one.path is not None)
        top, middle, bottom = (axes.transData.transform((0, t))[1] for t in range(3))
        assert top > middle > bottom
        assert axes.transData.transform((0, 0))[0] < axes.transData.transform((1, 0))[0]
        assert axes.get_title(loc="left") == one.name
    assert [(tick.get_text(), *tick.get_position()) for tick in figure.axes[0].get_yticklabels()] == [
        ("K", 0, 0), ("AE", 0, 1), ("⊣", 0, 2)
    ]  # fmt: skip
    assert figure.axes[1].lines[0].get_xdata().tolist() == [0, 1, 3]


def test_alignments_of_another_pair():
    with pytest.raises(InputError, match=r"alignment of attention has shape \(3, 4\), and the pair has 2 symbols"):
        plots.plot_alignments(ALIGNMENTS, SOURCE, TARGET[:2])
    with pytest.raises(InputError, match="received no alignments"):
        plots.plot_alignments([], SOURCE, TARGET)


def test_every_model_has_its_panel_and_the_others_stand_behind():
    bins = length_bins(np.array([1, 1, 2, 3, 3]), min_pairs=2)
    values = {"attention": np.array([0.1, 0.3]), "align": np.array([0.2, np.nan])}
    kinds = {"attention": "deterministic", "align": "stochastic"}
    figure = plots.plot_by_length(bins, values, kinds, "nats per symbol")
    for axes, name in zip(figure.axes, values, strict=True):
        *others, front = axes.lines
        assert len(others) == 2
        np.testing.assert_array_equal(front.get_ydata(), values[name])
        assert front.get_color() == PALETTE[kinds[name]]
        for other, drawn in zip(values.values(), others, strict=True):
            np.testing.assert_array_equal(drawn.get_ydata(), other)
        assert axes.get_title(loc="left") == name
        low, high = axes.get_ylim()
        assert low < 0.1 < 0.3 < high
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2–3"]
    assert figure.get_supylabel() == "nats per symbol"
    with pytest.raises(InputError, match="received no values"):
        plots.plot_by_length(bins, {}, {}, "nats")


def test_shares_have_an_axis_from_nothing_to_at_most_all():
    bins = length_bins(np.array([1, 1, 2, 3, 3]), min_pairs=2)
    for share, top in ((1.0, 1.06), (0.0, 0.106)):
        values = {"align": np.array([share, share])}
        axes = plots.plot_by_length(bins, values, {"align": "stochastic"}, "share wrong", least=(0, 0.1)).axes[0]
        assert axes.get_ylim() == pytest.approx((top / 1.06 * -0.06, top))
    assert axes.figure._supxlabel.get_text() == "symbols in the source"


def test_bars_are_shares():
    axes = plots.plot_components(WORDS).axes[0]
    wide = np.array([bar.get_width() for bar in axes.patches[:15]]).reshape(5, 3)
    np.testing.assert_allclose(wide, [[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.1, 0.9, 0], [0.2, 0.2, 0.6], [0, 0, 1]])
    begins = np.array([bar.get_x() for bar in axes.patches[:15]]).reshape(5, 3)
    np.testing.assert_allclose(begins, wide.cumsum(axis=1) - wide)
    colors = np.array([bar.get_facecolor() for bar in axes.patches[:15]]).reshape(5, 3, 4)
    legend = axes.figure.legends[0]
    expected = [matplotlib.colors.to_rgb(PALETTE[f"state-{m}"]) for m in range(3)]
    np.testing.assert_allclose(colors[..., :3], [expected] * 5)
    np.testing.assert_allclose([one.get_facecolor()[:3] for one in legend.get_patches()], expected)
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    strength = colors[:, 0, 3]  # what the source alone says is pale
    assert (strength[[1, 2, 4]] == 1).all()
    assert (strength[[0, 3]] < 1).all()
    assert axes.transData.transform((0, 0))[1] > axes.transData.transform((0, 1))[1]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["tomato", "T OW", "T AA", r"\$a_b\$", "EY"]
    with pytest.raises(InputError, match="received no words"):
        plots.plot_components([])
    many = WordComponents("a", ["b"], np.full(7, 1 / 7), np.full((1, 7), 1 / 7))
    with pytest.raises(InputError, match="received 7 components; 6 can be told apart"):
        plots.plot_components([many])
