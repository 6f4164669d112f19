"""The curves of runs, as figures of Bokeh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo.collections.nlp.report.run_files import RunFiles, smoothed, thinned

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource

COLOURS = ("#2f7ed8", "#e8743b", "#19a979", "#b8477f", "#945ecf", "#bf9b00", "#13a4b4", "#e05d5d")
"""One per run, in this order. Distinct on white and on black, and to most colour-blind readers."""
GREY = "#808080"
MOST_POINTS = 2000  # of all runs, in a figure
SMOOTHED_FROM, SMOOTHING = 40, 0.1
HEIGHT, MAIN_HEIGHT = 260, 380
MOST_BESIDE = 3  # entries of a legend beside each other, on a phone
LEGEND_HEIGHT = 20


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        title: above it.
        unit: of its y axis.
        training, held_out: names of the figures shown, as metrics.jsonl has them, without `eval_`.
        format: of the numbers beside its y axis, as Numeral.js has it.
        has_entropy: a line shows what a model reaches that knows frequencies alone.
        note: below it.
    """

    title: str
    unit: str
    training: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    format: str = ""
    has_entropy: bool = False
    note: str = ""


PLOTS = (
    Plot(
        "Loss of masked words",
        "nats",
        ("mlm_loss",),
        ("mlm_loss",),
        has_entropy=True,
        note="Dots: held out. Dashed: the unigram entropy, the loss of a model that knows how frequent words "
        "are and not their context.",
    ),
    Plot("Accuracy of masked words, held out", "", (), ("mlm_accuracy",), format="0.[0]%"),
    Plot(
        "Loss of next-sentence prediction", "nats", ("nsp_loss",), ("nsp_loss",), note="Guessing gives 0.69."
    ),
    Plot("Learning rate", "", ("lr",)),
    Plot("Throughput", "tokens/s", ("tokens_per_s",), format="0,0"),
    Plot("Norm of the gradient", "", ("grad_norm",)),
)


@dataclass(frozen=True)
class _Look:
    """Of the lines of a run.

    Attributes:
        prefix: of their names.
        run: what all of them are in the legend; None where each has an entry of its own.
    """

    colour: str
    prefix: str
    most_points: int
    run: str | None


def figures_of(runs: Sequence[RunFiles]) -> list[tuple[Plot, Any]]:
    """A figure for every plot that there are values for."""
    drawn = [(plot, _drawn(plot, runs)) for plot in PLOTS]
    return [(plot, figure) for plot, figure in drawn if figure is not None]


def _drawn(plot: Plot, runs: Sequence[RunFiles]) -> Any:
    from bokeh.models import BasicTickFormatter, HoverTool, NumeralTickFormatter, PlainText
    from bokeh.plotting import figure

    fig = figure(
        height=MAIN_HEIGHT if plot is PLOTS[0] else HEIGHT,
        sizing_mode="stretch_width",
        x_axis_label="step",
        # A finger that scrolls the page must not move a curve.
        tools="box_zoom,pan,reset,save",
        active_drag=None,
        toolbar_location="above",
        lod_threshold=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
    )
    fig.yaxis.axis_label = PlainText(text=plot.unit)
    fig.xaxis.formatter = NumeralTickFormatter(format="0,0")
    fig.yaxis.formatter = NumeralTickFormatter(format=plot.format) if plot.format else BasicTickFormatter()
    fig.axis.minor_tick_line_color = None
    fig.axis.axis_label_text_font_style = "normal"
    fig.toolbar.logo = None
    most = MOST_POINTS // len(runs)
    is_only = len(runs) == 1
    drawn = []
    for run, colour, other in zip(runs, cycle(COLOURS), cycle(COLOURS[1:] + COLOURS[:1])):
        prefix = "" if is_only else f"{_plain(run.name)}: "
        look = _Look(colour, prefix, most, None if is_only else _plain(run.name))
        drawn += [_draw_training(fig, run, name, look) for name in plot.training]
        look = replace(look, colour=other if is_only and plot.training else colour)
        drawn += [_draw_held_out(fig, run, name, look) for name in plot.held_out]
        if plot.has_entropy and any(drawn) and run.unigram_entropy is not None:
            _draw_entropy(fig, run, replace(look, colour=GREY if is_only else colour))
    if not any(drawn):
        return None
    fig.add_tools(
        HoverTool(
            tooltips=[("", "$name"), ("step", "@step{0,0}"), ("", f"@value{{0,0.[00000]}} {plot.unit}")],
        )
    )
    _lay_out_legend(fig)
    return fig


def _lay_out_legend(fig: Any) -> None:
    """Below the curves, where it hides none of them; one line by itself needs no legend."""
    (legend,) = fig.legend
    number = len(legend.items)
    legend.visible = number > 1
    legend.orientation = "horizontal"
    legend.ncols = min(number, MOST_BESIDE)
    fig.height += LEGEND_HEIGHT * (-(-number // MOST_BESIDE) - 1)
    legend.click_policy = "hide"
    legend.label_text_font_size = "11px"
    legend.margin, legend.padding, legend.spacing = 0, 4, 12
    legend.background_fill_alpha = legend.border_line_alpha = 0
    if legend.visible:
        fig.add_layout(legend, "below")


def _draw_training(fig: Any, run: RunFiles, name: str, look: "_Look") -> bool:
    """A line; of many values, which scatter, their running mean, and themselves behind it."""
    rows = [row for row in run.training if name in row]
    if not rows:
        return False
    label = f"{look.prefix}training"
    values = [row[name] for row in rows]
    if len(rows) < SMOOTHED_FROM or name == "lr":
        _line(fig, rows, values, label, look, legend_label=look.run or label)
    else:
        _line(fig, rows, values, label, look, line_alpha=0.25, line_width=1)
        _line(
            fig, rows, smoothed(values, SMOOTHING), f"{label}, smoothed", look, legend_label=look.run or label
        )
    return True


def _draw_held_out(fig: Any, run: RunFiles, name: str, look: "_Look") -> bool:
    """A line with a point at every evaluation."""
    rows = [row for row in run.evaluations if name in row]
    if rows:
        label = f"{look.prefix}held out"
        values = [row[name] for row in rows]
        source = _line(fig, rows, values, label, look, legend_label=look.run or label)
        fig.scatter(
            "step",
            "value",
            source=source,
            size=6,
            color=look.colour,
            name=label,
            legend_label=look.run or label,
        )
    return bool(rows)


def _draw_entropy(fig: Any, run: RunFiles, look: "_Look") -> None:
    steps = [row["step"] for row in (*run.training, *run.evaluations)]
    rows = [{"step": min(steps)}, {"step": max(steps)}]
    label = f"{look.prefix}unigram entropy"
    _line(
        fig, rows, [run.unigram_entropy] * 2, label, look, line_dash="dashed", legend_label=look.run or label
    )


def _line(
    fig: Any,
    rows: Sequence[Mapping[str, float]],
    values: Sequence[float | None],
    label: str,
    look: "_Look",
    **style: Any,
) -> "ColumnDataSource":
    from bokeh.models import ColumnDataSource

    points = thinned(list(zip(rows, values, strict=True)), look.most_points)
    source = ColumnDataSource(
        {
            "step": np.array([row["step"] for row, _ in points], np.float64),
            "value": np.array([value for _, value in points], np.float32),
        }
    )
    fig.line(
        "step", "value", source=source, **{"color": look.colour, "line_width": 2, "name": label, **style}
    )
    return source


def _plain(text: str) -> str:
    """Text in which Bokeh sees no formula."""
    return text.replace("$", "＄").replace("\\", "＼")
