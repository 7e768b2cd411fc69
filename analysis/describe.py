"""What a strategy is, in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def describe(config: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """A strategy in words: its schedule, and whatever differs from the protocol and from the thesis's pair of estimators."""

    def given(name: str) -> bool:
        value = config.get(name)
        return value is not None and not (isinstance(value, float) and np.isnan(value))

    family, skew = config.get("family", "unknown schedule"), config.get("skew")
    words = [str(family).replace("_", " ")]
    if family == "constant" and given("skew"):
        words = [f"p_std = {skew:.3g}"]
    elif given("skew"):
        words.append(f"skew {skew:.3g}")
    if given("rising"):
        words.append("rising" if str(config["rising"]) in ("True", "1", "1.0") else "falling")
    if given("cycles"):
        words.append(f"{int(config['cycles'])} cycles")
    if given("knots"):
        words.append(f"knots {config['knots']}")
    if config.get("per") == "update":
        words.append("per update")
    pair = (config.get("cheap", "standard"), config.get("accurate", "centered"))
    if pair != ("standard", "centered"):
        words.append(f"{pair[0]}/{pair[1]}".replace("_", " "))
    if config.get("draw", "bernoulli") != "bernoulli":
        words.append(f"{config['draw']} draws")
    for name, symbol in (("beta", "β"), ("T1", "T1"), ("T2", "T2"), ("tolerance", "tolerance")):
        if given(name) and config[name] != protocol.get(name):
            words.append(f"{symbol} = {config[name]:.3g}")
    if config.get("relaxation", protocol.get("relaxation")) != protocol.get("relaxation"):
        words.append(f"{config['relaxation']} relaxation")
    return ", ".join(words)
