"""Estimators as stencils over nudges: ĝ = (1/β) Σ_k c_k · G(b_k β), with G(β) = ∂Φ/∂θ at the equilibrium s_β (thesis eq. 1-10)."""

from dataclasses import dataclass
from fractions import Fraction
from math import factorial


@dataclass(frozen=True)
class Estimator:
    """A finite-difference rule for G'(0).

    `nudges` are the b_k, `coefficients` the c_k; a nudge of 0 is the free phase. `signs` are the factors that β is multiplied by,
    one of them drawn with equal probability for each minibatch. Construction fails with ValueError unless Σc = 0 and Σcb = 1, exactly.
    """

    name: str
    nudges: tuple[Fraction | int, ...]
    coefficients: tuple[Fraction | int, ...]
    signs: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nudges", tuple(Fraction(b) for b in self.nudges))
        object.__setattr__(self, "coefficients", tuple(Fraction(c) for c in self.coefficients))
        if len(self.nudges) != len(self.coefficients):
            raise ValueError(f"estimator {self.name}: {len(self.nudges)} nudges but {len(self.coefficients)} coefficients")
        if len(set(self.nudges)) != len(self.nudges):
            raise ValueError(f"estimator {self.name}: nudges {self._words(self.nudges)} are not distinct")
        if any(c == 0 for c in self.coefficients):
            raise ValueError(f"estimator {self.name}: a coefficient is 0, its phase would be relaxed for nothing")
        if self.moment(0) != 0:
            raise ValueError(f"estimator {self.name}: coefficients sum to {self.moment(0)}, must be 0")
        if self.moment(1) != 1:
            raise ValueError(f"estimator {self.name}: Σ c·b is {self.moment(1)}, must be 1")
        if self.signs not in ((1,), (-1,), (1, -1), (-1, 1)):
            raise ValueError(f"estimator {self.name}: signs {self.signs} must be -1, 1 or both, once each")

    @staticmethod
    def _words(values: tuple[Fraction | int, ...]) -> str:
        return "(" + ", ".join(str(value) for value in values) + ")"

    def moment(self, order: int) -> Fraction:
        """Σ_k c_k b_k^order / order!, the weight of β^(order-1) G^(order)(0) in the Taylor expansion of ĝ."""
        total = sum((c * b**order for b, c in zip(self.nudges, self.coefficients, strict=True)), Fraction(0))
        return total / factorial(order)

    @property
    def nudged_phases(self) -> int:
        """Nudged relaxations per update (the thesis's cost)."""
        return sum(b != 0 for b in self.nudges)

    @property
    def bias_order(self) -> int:
        """The power of β that leads the bias of one update (1 for `standard`, eq. 7; 2 for `centered`, eq. 10)."""
        order = 2
        while self.moment(order) == 0:
            order += 1
        return order - 1

    @property
    def expected_bias_order(self) -> int:
        """The power of β that leads the bias averaged over the drawn signs: odd powers cancel between +β and −β."""
        order = self.bias_order
        if set(self.signs) == {-1, 1}:
            while order % 2 == 1 or self.moment(order + 1) == 0:
                order += 1
        return order


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator("standard", (0, 1), (-1, 1)),
        Estimator("negative", (0, 1), (-1, 1), signs=(-1,)),
        Estimator("random_sign", (0, 1), (-1, 1), signs=(-1, 1)),
        Estimator("centered", (1, -1), (Fraction(1, 2), Fraction(-1, 2))),
        Estimator("second_order", (0, 1, 2), (Fraction(-3, 2), 2, Fraction(-1, 2))),
        Estimator("fourth_order", (1, -1, 2, -2), (Fraction(2, 3), Fraction(-2, 3), Fraction(-1, 12), Fraction(1, 12))),
    )
}
