"""What findings are made of: effects over trainings, paired by seed and corrected together.

A table is a dict weight set -> dict seed -> number, as `results.Study.table` gives.
"""

from dataclasses import dataclass

from scipy import stats

from ddpm_keras import names
from ddpm_keras.report import inference

RAW, PRIMARY = names.RAW, names.average("warmup_0.999")
SHORT = names.average("warmup_0.99")
FINDING = 0.05


@dataclass(frozen=True)
class Tested:
    """An effect with the p-value that is corrected for all tests of its question."""

    effect: inference.Effect
    corrected: float | None

    @property
    def verdict(self):
        """What it says: "finding", "not shown", or why there is no test."""
        if self.corrected is None:
            return "one training" if self.effect.count == 1 else "the same in all, no spread"
        return "finding" if self.corrected < FINDING else "not shown"


def corrected(effects):
    """Dict name -> `Effect` as dict name -> `Tested`, corrected together."""
    p = inference.holm([each.p for each in effects.values()])
    return {name: Tested(each, q) for (name, each), q in zip(effects.items(), p, strict=True)}


def paired(table, first, second):
    """The values of two weight sets in the trainings that have both: two lists."""
    seeds = sorted(table.get(first, {}).keys() & table.get(second, {}).keys())
    return [[table[name][seed] for seed in seeds] for name in (first, second)]


def ratio(table, first, second):
    """`inference.ratio` of two weight sets of a table, or None where no training has both."""
    values = paired(table, first, second)
    return inference.ratio(*values) if values[0] else None


def level(table, name):
    """Geometric mean of a weight set over trainings, with its interval."""
    return inference.level(list(table[name].values()))


def widths_of(table):
    """The synthesised weight sets of a table: list of (σ_rel, name), the narrowest first."""
    made = [(names.synthesis(name), name) for name in table]
    return sorted((float(pair[1]), name) for pair, name in made if pair and pair[0] == "sigma_rel")


def correlation(x, y):
    """Spearman's; 0 where one of the two does not move."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return 0.0
    return float(stats.spearmanr(x, y).statistic)
