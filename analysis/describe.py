"""What a strategy is, in words, for folders whose trials do not say it themselves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.results import plain

# Fields with words of their own; any other one that differs from the protocol is told by its name.
SYMBOLS = {"beta": "β = {:.3g}", "T1": "T1 = {:.0f}", "T2": "T2 = {:.0f}", "tolerance": "tolerance {:.3g}", "epochs": "{:.0f} epochs"}
TOLD = ("family", "skew", "rising", "cycles", "knots", "per", "cheap", "accurate", "draw", "relaxation", *SYMBOLS)


def describe(config: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """A strategy in words: its schedule, and whatever differs from the protocol and from the thesis's pair of estimators.

    >>> describe({"family": "cosine", "skew": 0.5, "beta": 0.3}, {"beta": 0.85})
    'cosine, mean p_std 0.5, β = 0.3'
    >>> describe({"family": "constant", "skew": 1.0, "cheap": "random_sign"}, {})
    'always random sign'
    """

    def given(name: str) -> bool:
        value = config.get(name)
        return value is not None and not (isinstance(value, float) and np.isnan(value))

    family = config.get("family", "unknown schedule")
    pair = [str(config.get(name, usual)).replace("_", " ") for name, usual in (("cheap", "standard"), ("accurate", "centered"))]
    words = [str(family).replace("_", " ")]
    if family == "constant" and given("skew"):
        words = [f"always {pair[config['skew'] == 0]}"] if config["skew"] in (0, 1) else [f"p_std = {config['skew']:.3g}"]
    elif given("skew"):
        words.append(f"mean p_std {config['skew']:.3g}")
    if given("rising"):
        words.append("rising" if str(config["rising"]) in ("True", "1", "1.0") else "falling")
    if given("cycles"):
        words.append(f"{int(config['cycles'])} cycles")
    if given("knots"):
        words.append(f"{str(config['knots']).count(':')} knots")
    if config.get("per") == "update":
        words.append("per update")
    if pair != ["standard", "centered"] and not words[0].startswith("always"):
        words.append(" and ".join(pair))
    if config.get("draw", "bernoulli") != "bernoulli" and not words[0].startswith("always"):
        words.append(f"{config['draw']} draws")
    words += [told.format(config[name]) for name, told in SYMBOLS.items() if given(name) and config[name] != protocol.get(name)]
    if config.get("relaxation", protocol.get("relaxation")) != protocol.get("relaxation"):
        words.append(f"{config['relaxation']} relaxation")
    rest = [name for name in config if name not in TOLD and given(name) and plain(config[name]) != plain(protocol.get(name))]
    words += [f"{name.replace('_', ' ')} {format(config[name], '.3g' if isinstance(config[name], float) else '')}" for name in rest]
    return ", ".join(words)
