"""Names that result files use: the thesis's strategies, configuration fields, epoch columns, and how each column is called on an axis."""

THESIS = ("standard", "centered", "cosine", "inverse_cosine", "stochastic")
ORIGINS = ("thesis", "control", "search", "confirm")

KEYS = ("trial_id", "strategy", "origin", "seed")
SHARED_COLUMNS = (
    "epoch",
    "updates",
    "p_std",
    "learning_rate",
    "load",
)  # of all seeds, unless each has its own
EPOCH_COLUMNS = (
    *("epoch", "updates", "p_std", "cheap_updates", "nudged_phases", "free_steps", "nudged_steps", "longest_cheap_run"),
    *("train_acc", "val_acc", "test_acc", "train_loss", "free_residual", "saturation", "collapsed", "learning_rate", "epoch_seconds"),
    *("agreement", "relative_bias", "energy_rises", "load"),  # where they were measured
)
TOTAL_COLUMNS = ("relaxation_steps", "train_seconds")
# Every column of trials.csv that is not a field of the configuration.
RESULT_COLUMNS = (*KEYS, *EPOCH_COLUMNS, *TOTAL_COLUMNS, "status", "study", "description")
COUNTS = ("seed", "epoch", "updates", "cheap_updates", "nudged_phases", "longest_cheap_run", "collapsed")

# The three ways to say what training cost, with their axis titles. The first is the thesis's.
COSTS = {
    "nudged_phases": "Nudged phases",
    "relaxation_steps": "Relaxation steps (network updates)",
    "train_seconds": "Training time (s)",
}

METRICS = {"test_acc": "Test accuracy", "val_acc": "Validation accuracy"}


def strategy_label(strategy: str) -> str:
    """How a strategy is called in text and figures."""
    return strategy.replace("_", " ")
