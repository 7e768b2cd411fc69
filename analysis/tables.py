"""Tables as files and as text: full-precision CSV, and the two that people read as Markdown, LaTeX and terminal text."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow  # type: ignore[import-untyped]
from pyarrow import csv

from analysis.answer import Answer
from analysis.escape import for_csv, for_markdown
from analysis.vocabulary import COSTS, METRICS, strategy_label
from analysis.words import amount, count, p_value, percent, point_span, points, probability, seconds, span, spread


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Numbers in full, nothing for NaN and None. Ten times faster than DataFrame.to_csv, which curves of many trials need."""
    partial = path.with_name(path.name + ".partial")
    table = _without_formulas(table)
    mixed = [
        name for name in table if table[name].dtype == object and pd.api.types.infer_dtype(table[name], skipna=True).startswith("mixed")
    ]
    arrow = pyarrow.Table.from_pandas(table.astype(dict.fromkeys(mixed, "string")), preserve_index=False)
    try:
        _write_rows(arrow, partial, "none")
    except pyarrow.ArrowInvalid:  # some text holds a comma or a quote
        _write_rows(arrow, partial, "needed")
    partial.replace(path)  # a reader never sees half a table


def _without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its text as `for_csv` makes it; numbers are left alone."""
    changes = {}
    for name in table.columns[~table.dtypes.map(pd.api.types.is_numeric_dtype)]:
        texts = [text for text in table[name].dropna().unique() if isinstance(text, str)]
        changes[name] = {text: safe for text in texts if (safe := for_csv(text)) != text}
    return table.replace({name: change for name, change in changes.items() if change}) if any(changes.values()) else table


def _write_rows(table: pyarrow.Table, path: Path, quoting: str) -> None:
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())
        csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style=quoting))


def front_table(answer: Answer) -> pd.DataFrame:
    """A row for each strategy on the front, cheapest first; columns of front.csv."""
    table = answer.strategies.table.loc[list(answer.front)]
    costs = [name for cost in COSTS for name in (cost, f"{cost}_std")]
    front = table[["origin", "description", "trial_ids", "n_seeds", "test_acc", "test_acc_std", "test_acc_low", "test_acc_high"]].assign(
        **table[["val_acc", "val_acc_std", "selection_acc", *costs, "p_std", "cheap_share", "longest_cheap_run", "collapsed"]],
        probability_nondominated=answer.probability.reindex(table.index),
        **{f"on_{cost}_front": table.index.isin(answer.fronts[cost]) for cost in COSTS if cost != "nudged_phases"},
        **table[answer.strategies.fields],
    )
    return front.reset_index(names="strategy")


def strategies_table(answer: Answer) -> pd.DataFrame:
    """A row for each strategy; columns of strategies.csv."""
    return (
        answer.strategies.table.drop(columns="candidate")
        .assign(on_front=lambda table: table.index.isin(answer.front))
        .reset_index(names="strategy")
    )


def shown_strategies(answer: Answer, names: list[str]) -> pd.DataFrame:
    """Some strategies as people read them, with the front marked, cheapest first. Seconds only where the load is known."""
    strategies = answer.strategies
    table = strategies.table.loc[names].sort_values("nudged_phases", kind="stable")
    centered = strategies.table["nudged_phases"].get("centered", np.nan) or np.nan
    rows = [
        {
            "Front": "●" if name in answer.front else "",
            "Strategy": strategy_label(str(name)),
            "What it is": row["description"],
            f"{METRICS[strategies.metric]} (%)": accuracy_words(row),
            "95 % interval": span(row["accuracy_low"], row["accuracy_high"], 1) if row["trained"] == row["n_seeds"] else "–",
            "Nudged phases": amount(row["nudged_phases"]),
            "Of centered (%)": percent(row["nudged_phases"] / centered, 0),
            "Relaxation steps": amount(row["relaxation_steps"]),
            **({"Time (s)": seconds(row["train_seconds"])} if answer.load else {}),
            "P(front)": probability(float(answer.probability.get(name, np.nan))),
            "Seeds": str(row["n_seeds"]),
        }
        for name, row in table.iterrows()
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Strategy"])


def accuracy_words(row: pd.Series) -> str:
    """A strategy's accuracy; of one that collapsed on some seed, how many seeds trained: its mean would be that of two things."""
    if row["trained"] < row["n_seeds"]:
        return f"{row['trained']} of {row['n_seeds']} seeds trained"
    return spread(row["accuracy"], row["accuracy_std"], 1)


def main_strategies(answer: Answer) -> list[str]:
    """The strategies of the thesis, the controls and those on the front."""
    table = answer.strategies.table
    return list(table.index[(table["origin"] != "search") | table.index.isin(answer.front)])


def shown_dominance(answer: Answer) -> pd.DataFrame:
    """The claims: found strategies on the front that dominate one of the thesis."""
    rows = [
        {
            "Thesis strategy": strategy_label(row["thesis"]),
            "Dominated by": strategy_label(row["strategy"]),
            "Difference (points)": points(row["difference"]),
            "95 % interval": point_span(row["low"], row["high"]),
            "p (Holm)": p_value(row["p_holm"]),
            "Verdict": row["verdict"],
            "Nudged phases saved (%)": percent(row["nudged_phases_saved"], 1),
            "Relaxation steps saved (%)": percent(row["relaxation_steps_saved"], 1),
            "Seeds": f"{row['pairs']} paired" if row["pairs"] else "unpaired",
        }
        for row in answer.dominance[answer.dominance["on_front"].astype(bool)].to_dict("records")
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Thesis strategy"])


def shown_matches(answer: Answer, most: int | None = None) -> pd.DataFrame:
    """The candidates within the budget of `answer.match`, the one that selection prefers first; no rows where there is no target."""
    table = answer.match.table if answer.match else pd.DataFrame(columns=["strategy"])
    rows = [
        {
            "Strategy": strategy_label(row["strategy"]),
            "What it is": row["description"],
            "Of centered (%)": percent(row["cost_share"], 0),
            "Difference (points)": points(row["difference"]),
            "95 % interval": point_span(row["low"], row["high"]),
            "Within the margin": row["verdict"],
            "Seeds": f"{row['pairs']} paired" if row["pairs"] else "unpaired",
        }
        for row in table.head(most or len(table)).to_dict("records")
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Strategy"])


def shown_samplers(answer: Answer) -> pd.DataFrame:
    """Samplers by what their searches reached, best first; no rows where there is one sampler."""
    rows = [
        {
            "Sampler": sampler.name,
            "Searches": str(sampler.searches),
            "Strategies tried": count(sampler.trials),
            "Hypervolume (median)": f"{sampler.hypervolume:.4f}",
            "Least": f"{sampler.low:.4f}",
            "Most": f"{sampler.high:.4f}",
            "Added to the thesis (median)": f"{sampler.gain:.4f}",
        }
        for sampler in answer.samplers
    ]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["Sampler"])


def as_markdown(table: pd.DataFrame) -> str:
    """A pipe table, numbers to the right."""
    lines = [list(table.columns), ["---:" if numeric(table[name]) else "---" for name in table.columns], *table.to_numpy().tolist()]
    return "".join("| " + " | ".join(for_markdown(str(cell)) for cell in line) + " |\n" for line in lines)


def numeric(column: pd.Series) -> bool:
    """Whether a column of text holds numbers (and dashes) only."""
    return bool(len(column)) and all(cell[:1] in "0123456789+−–—<>-" for cell in column.astype(str) if cell)
