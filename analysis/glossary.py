"""What the words of a report mean, for its tooltips and its last fold."""

import re
from typing import Final

from analysis.escape import for_html

GLOSSARY: Final[dict[str, str]] = {
    "nudged phases": "Relaxations with the output pulled towards the target (β ≠ 0), a minibatch at a time, summed over training: the "
    "thesis's cost. Standard EP needs one for each update, centered EP two.",
    "free phase": "Relaxation of the network with its input alone (β = 0), until it is at rest. Every update needs one.",
    "nudged phase": "Relaxation from there with the output pulled towards the target, with strength β.",
    "β": "The strength of the nudge: how hard the output is pulled towards the target.",
    "p_std": "The probability that a minibatch uses the cheap estimator (in the thesis: standard EP).",
    "mean p_std": "The mean of p_std over training. It decides what a schedule costs.",
    "spread draws": "Cheap updates come as evenly as possible instead of at random, as many as p_std asks for.",
    "residual": "How far the network still moves when its free phase is stopped: 0 is at rest.",
    "saturation": "The share of units at the ends of their range, where they learn no more.",
    "collapsed": "Ended at the accuracy of guessing, or relaxes in steps so large that its energy does not fall. "
    "A strategy that does so on one seed may do so on the next.",
    "front": "The strategies that nothing else beats in both accuracy and cost.",
    "control": "Centered EP trained for fewer epochs: what spending less gives without any new strategy.",
    "fresh seeds": "Seeds that the search never saw: on them, a strategy cannot look good because it was selected for luck.",
    "relaxation steps": "Updates of the whole network, summed over phases and samples, divided by the batch size: the cost in arithmetic.",
    "P(front)": "The probability that nothing beats the strategy in both accuracy and nudged phases, from 2,000 joint draws of all means.",
    "hypervolume": "The share of the area between no cost, perfect accuracy and a reference point that the front covers.",
}
_TERM: Final = re.compile("|".join(rf"(?<![\w-]){re.escape(for_html(term))}(?!\w)" for term in sorted(GLOSSARY, key=len, reverse=True)))


def explained(escaped: str) -> str:
    """HTML text with a tooltip on the first use of every word that has a meaning of its own.

    >>> explained("No β.").startswith('No <abbr tabindex="0" title="The strength of the nudge')
    True
    """
    told: set[str] = set()

    def mark(found: re.Match[str]) -> str:
        term = next(term for term in GLOSSARY if for_html(term) == found[0])
        if term in told:
            return found[0]
        told.add(term)
        return f'<abbr tabindex="0" title="{for_html(GLOSSARY[term])}">{found[0]}</abbr>'

    return _TERM.sub(mark, escaped)
