"""A readable summary of a fine-tuning."""

from collections.abc import Sequence

from nemo.collections.nlp.finetuning.metrics import DEFINITIONS, MAIN_FIGURE, mean_and_deviation
from nemo.collections.nlp.finetuning.run import Figures, FinetuningResult


def summary(result: FinetuningResult) -> str:
    """Learning rates, scores of each set with their definitions, and the path of the model."""
    main = MAIN_FIGURE[result.task]
    lines = [f"labels                {', '.join(result.labels)}", f"learning rate         {result.lr:g}"]
    if len(result.valid_by_lr) > 1:
        tried = (f"{rate:g}: {100 * run[main]:.1f}" for rate, run in result.valid_by_lr.items())
        lines[-1] += f"   (validation {main} by rate: {', '.join(tried)})"
    sets: list[tuple[str, Sequence[Figures]]] = [("validation", result.valid), ("test", result.test)]
    for split, runs in sets:
        for name in runs[0] if runs else ():
            lines.append(f"{split + ' ' + name:<22}{in_words(runs, name)}")
    lines.append(f"training              {result.seconds:.0f} s per run")
    lines.append(f"model                 {result.folder}")
    lines += [f"{name}: {DEFINITIONS[name]}" for name in result.valid[0]]
    return "\n".join(lines)


def in_words(runs: Sequence[Figures], name: str) -> str:
    """`64.2 ± 0.4 (mean and standard deviation of 5 seeds)`, in percent."""
    mean, deviation = mean_and_deviation(runs, name)
    if deviation is None:
        return f"{100 * mean:.1f} (one seed)"
    return f"{100 * mean:.1f} ± {100 * deviation:.1f} (mean and standard deviation of {len(runs)} seeds)"
