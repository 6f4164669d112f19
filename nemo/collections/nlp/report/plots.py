"""The curves of runs, as figures of Bokeh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo.collections.nlp.report.run_files import RunFiles, smoothed, thinned

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource

COLORS = ("#2f7ed8", "#e8743b", "#19a979", "#b8477f", "#945ecf", "#bf9b00", "#13a4b4", "#e05d5d")
"""One color per run, in this order; distinct on white, on black, and to most color-blind readers."""
GRAY = "#808080"
MOST_POINTS = 2000  # in a figure, over all runs
SMOOTHED_FROM, SMOOTHING = 40, 0.1
HEIGHT, MAIN_HEIGHT = 260, 380
MOST_BESIDE = 3  # legend entries that fit in a row on a phone
LEGEND_HEIGHT = 20


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        title: title above it.
        unit: unit of its y axis.
        training, held_out: names of the figures shown, as in metrics.jsonl without `eval_`.
        format: Numeral.js format of the numbers on its y axis.
        has_entropy: whether a line shows the unigram entropy.
        note: note below it.
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
        "MLM loss",
        "nats",
        ("mlm_loss",),
        ("mlm_loss",),
        has_entropy=True,
        note="Dots: held out. Dashed: the unigram entropy, the loss of a model that knows only token "
        "frequencies.",
    ),
    Plot("MLM accuracy, held out", "", (), ("mlm_accuracy",), format="0.[0]%"),
    Plot("Next-sentence loss", "nats", ("nsp_loss",), ("nsp_loss",), note="Guessing gives 0.69."),
    Plot("Learning rate", "", ("lr",)),
    Plot("Throughput", "tokens/s", ("tokens_per_s",), format="0,0"),
    Plot("Gradient norm", "", ("grad_norm",)),
)


@dataclass(frozen=True)
class _Look:
    """The look of a run's lines.

    Attributes:
        prefix: prefix of their names.
        run: legend entry for all of them; None if each line has its own.
    """

    color: str
    prefix: str
    most_points: int
    run: str | None


def figures_of(runs: Sequence[RunFiles]) -> list[tuple[Plot, Any]]:
    """A figure for every plot with values."""
    drawn = [(plot, _drawn(plot, runs)) for plot in PLOTS]
    return [(plot, figure) for plot, figure in drawn if figure is not None]


def _drawn(plot: Plot, runs: Sequence[RunFiles]) -> Any:
    from bokeh.models import BasicTicker, BasicTickFormatter, HoverTool, NumeralTickFormatter, PlainText
    from bokeh.plotting import figure

    fig = figure(
        height=MAIN_HEIGHT if plot is PLOTS[0] else HEIGHT,
        sizing_mode="stretch_width",
        x_axis_label="step",
        # Scrolling the page with a finger must not move a curve.
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
    fig.xaxis.ticker = BasicTicker(min_interval=1)  # there are no half steps
    fig.yaxis.formatter = (
        NumeralTickFormatter(format=plot.format) if plot.format else BasicTickFormatter(power_limit_low=-6)
    )
    fig.axis.minor_tick_line_color = None
    fig.axis.axis_label_text_font_style = "normal"
    fig.toolbar.logo = None
    most = MOST_POINTS // len(runs)
    is_only = len(runs) == 1
    drawn = []
    for run, color, other in zip(runs, cycle(COLORS), cycle(COLORS[1:] + COLORS[:1])):
        prefix = "" if is_only else f"{_plain(run.name)}: "
        look = _Look(color, prefix, most, None if is_only else _plain(run.name))
        drawn += [_draw_training(fig, run, name, look) for name in plot.training]
        look = replace(look, color=other if is_only and plot.training else color)
        drawn += [_draw_held_out(fig, run, name, look) for name in plot.held_out]
        if plot.has_entropy and any(drawn) and run.unigram_entropy is not None:
            _draw_entropy(fig, run, replace(look, color=GRAY if is_only else color))
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
    """Put the legend below the curves; a single line needs none."""
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
    """Draw a line; for many noisy values, their running mean in front of the values."""
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
    """Draw a line with a point at every evaluation."""
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
            color=look.color,
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
    fig.line("step", "value", source=source, **{"color": look.color, "line_width": 2, "name": label, **style})
    return source


def _plain(text: str) -> str:
    """Escape text so that Bokeh sees no formula in it."""
    return text.replace("$", "＄").replace("\\", "＼")
