"""Names that result files use: the thesis's strategies, configuration fields, epoch columns, and how each column is called on an axis."""

THESIS = ("standard", "centered", "cosine", "inverse_cosine", "stochastic")
ORIGINS = ("thesis", "search", "confirm")

# What a search may vary; every other field of a trial's configuration, its seed aside, belongs to the protocol.
SCHEDULE_FIELDS = ("family", "skew", "rising", "cycles", "knots", "per", "cheap", "accurate", "draw")
SEARCHED_FIELDS = (*SCHEDULE_FIELDS, "beta", "relaxation", "T1", "T2", "tolerance")

KEYS = ("trial_id", "strategy", "origin", "seed")
SHARED_COLUMNS = ("epoch", "updates", "p_std", "learning_rate")  # the same for every seed of a trial
EPOCH_COLUMNS = (
    *("epoch", "updates", "p_std", "cheap_updates", "nudged_phases", "free_steps", "nudged_steps", "longest_cheap_run"),
    *("train_acc", "val_acc", "test_acc", "train_loss", "free_residual", "saturation", "collapsed", "learning_rate", "epoch_seconds"),
)
TOTAL_COLUMNS = ("relaxation_steps", "train_seconds")
COUNTS = ("seed", "epoch", "updates", "cheap_updates", "nudged_phases", "longest_cheap_run", "collapsed")

# The three ways to say what training cost, with their axis titles. The first is the thesis's.
COSTS = {
    "nudged_phases": "Nudged phases",
    "relaxation_steps": "Relaxation steps (network updates)",
    "train_seconds": "Training time (s)",
}


def strategy_label(strategy: str) -> str:
    """How a strategy is called in text and figures."""
    return strategy.replace("_", " ")
