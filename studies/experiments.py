"""What the study runs: a table of experiments, each a question, trainings and measurements.

The plan of the study, docs/study-plan.md, says what is compared and by which statistics. The
cheapest experiments come first. Commands are run from the folder that holds all runs.
"""

import math
from dataclasses import dataclass

FASHION = "/usr/share/datasets/fashion-mnist"  # where Debian's dataset-fashion-mnist puts it
EMOJI = "emoji"  # made by studies/emoji.py, beside the runs

# Images are drawn alike in every experiment, so that numbers of one data set compare.
DRAW = "--steps 25 --num-images 1000"
WIDTHS = "--sigma-rel 0.05 0.075 0.1 0.15 0.2 0.25"
# ema_warmup_0.9999 is the same average as ema_warmup_0.999 for the first 8,989 steps, which is
# longer than any training here: it is not tracked twice. The last rule is "ema".
RULES = (
    "--ema-rules constant_0.99=constant:0.99 constant_0.999=constant:0.999 "
    "constant_0.9999=constant:0.9999 step lawa={lawa} swa={swa} warmup:0.99 warmup:0.999"
)
DIGITS = "--precision float32 --validation-images 360 --no-evaluate"
AVERAGES = "--ema-rules warmup:0.99 warmup:0.999"
STAGE_WIDTHS = "--sigma-rel 0.05 0.1 0.15 0.25 --weights raw ema_warmup_0.99 ema_warmup_0.999"


@dataclass(frozen=True)
class Experiment:
    """One question.

    Attributes:
        name: what it is called; its runs are the folders `run(seed)`.
        asks: the question.
        seeds: one training each.
        train: options of train.py; "" where it measures the runs of another experiment.
        measures: commands that measure a run, each the options of evaluate.py, or a script of
            studies/ with its options; the run comes first.
        of: the experiment whose runs are measured.
    """

    name: str
    asks: str
    seeds: tuple[int, ...]
    train: str = ""
    measures: tuple[str, ...] = ()
    of: str = ""

    def run(self, seed):
        """The folder of a training."""
        return f"{self.of or self.name}-{seed}"

    def commands(self, seed):
        """The commands of one training, lists of words: training it, then measuring it."""
        run = self.run(seed)
        if self.train:
            yield ["train.py", *self.train.split(), "--seed", str(seed), "--run-dir", run]
        for measure in self.measures:
            own = measure.startswith("studies/")
            script, *options = measure.split() if own else ["evaluate.py", *measure.split()]
            yield [script, run, *options]


def _trained(name, asks, seeds, train, *measures):
    return Experiment(name, asks, tuple(seeds), train, measures)


def _stages(of, seeds, steps):
    asks = f"which length of average is best at which stage of training ({of})?"
    measures = tuple(f"{DRAW} --step {step} {STAGE_WIDTHS}" for step in steps)
    return Experiment(f"stages-{of}", asks, tuple(seeds), measures=measures, of=of)


def _opinions(of, seeds):
    asks = f"do other extractors, other drawings and other classifiers say the same ({of})?"
    measure = f"studies/opinions.py {DRAW} {WIDTHS}"
    return Experiment(f"opinions-{of}", asks, tuple(seeds), measures=(measure,), of=of)


@dataclass(frozen=True)
class _Base:
    """A training that others change in one thing: batches of 64 images at a constant rate.

    Attributes:
        suffix: of the names of experiments.
        seeds: one training each.
        train: options of train.py but what the others change.
        length: options for `steps` and batches of 64, where they are not the preset's.
        steps, rate, warmup: how many steps, the learning rate, and the steps it rises over.
        draw: options of evaluate.py.
    """

    suffix: str
    seeds: int
    train: str
    length: str
    steps: int
    rate: float
    warmup: int
    draw: str


_DIGITS = _Base("", 4, DIGITS, "", 2000, 1e-3, 100, DRAW)
_FASHION = _Base(
    "-fashion",
    3,
    f"--dataset {FASHION} --precision bfloat16 --no-evaluate",
    " --batch-size 64 --steps 1000",
    1000,
    5e-4,
    100,
    "--steps 25 --num-images 500",
)


def _schedule(kind, base):
    asks = f"what does an average buy where the learning rate falls to zero ({kind})?"
    asks = asks if kind != "constant" else "what does it buy where the rate stays the same?"
    epoch = f"--epoch-steps {base.steps // 4} --quality-every-epochs 0"
    train = f"{base.train}{base.length} {epoch} {AVERAGES} --lr-schedule {kind}"
    return _trained(f"rate-{kind}{base.suffix}", asks, range(base.seeds), train, base.draw)


def _guidance(base, strengths, widths):
    asks = "which length of average goes with which strength of guidance?"
    epoch = f"--epoch-steps {base.steps // 4} --quality-every-epochs 0"
    train = f"{base.train}{base.length} {epoch} --conditional --snapshots 20 {AVERAGES}"
    draw = f"--steps 25 --num-images 500 --guidance {{}} --sigma-rel {widths} --weights raw"
    measures = [draw.format(strength) for strength in strengths]
    return _trained(f"guidance{base.suffix}", asks, range(3), train, *measures)


def _batch(size, base):
    """A training on as many images, rate by the square root; 0.99 is scaled by beta^(size / 64)."""
    asks = f"does beta^k keep an average as good at a batch of {size}?"
    steps, warmup = base.steps * 64 // size, base.warmup * 64 // size
    rate = base.rate * math.sqrt(size / 64)
    train = f"{base.train} --epoch-steps {steps // 4} --quality-every-epochs 0 --batch-size {size} "
    train += f"--steps {steps} --learning-rate {rate:g} --warmup-steps {warmup} "
    train += f"--log-every-steps {steps // 100}"
    rules = f"--ema-rules scaled=warmup:{0.99 ** (size / 64):.6g} warmup:0.99 warmup:0.999"
    return _trained(f"batch-{size}{base.suffix}", asks, range(3), f"{train} {rules}", base.draw)


EXPERIMENTS = (
    _trained(
        "main-digits",
        "is ema_warmup_0.999 closer to the real images than the raw weights (digits)?",
        range(8),
        f"{DIGITS} --epoch-steps 100 --quality-every-epochs 2 --quality-images 200 --keep 20 "
        "--snapshots 20 " + RULES.format(lawa="lawa:5:100", swa="swa:1000"),
        f"{DRAW} {WIDTHS}",
    ),
    _opinions("main-digits", range(8)),
    _stages("main-digits", range(3), (200, 500, 1000)),
    _schedule("linear", _DIGITS),
    _schedule("cosine", _DIGITS),
    _guidance(_DIGITS, ("1", "1.5", "2", "3", "4"), "0.05 0.075 0.1 0.15 0.2 0.25"),
    _batch(256, _DIGITS),
    _batch(16, _DIGITS),
    _schedule("constant", _FASHION),
    _schedule("cosine", _FASHION),
    _schedule("linear", _FASHION),
    _guidance(_FASHION, ("1", "2", "4"), "0.05 0.1 0.15 0.25"),
    _batch(256, _FASHION),
    _batch(16, _FASHION),
    _trained(
        "main-fashion",
        "is ema_warmup_0.999 closer to the real images than the raw weights (Fashion-MNIST)?",
        range(3),
        f"--dataset {FASHION} --batch-size 64 --steps 8000 --precision float32 --no-evaluate "
        "--quality-every-epochs 0 --keep 16 --snapshots 16 "
        + RULES.format(lawa="lawa:5:500", swa="swa:4000"),
        f"{DRAW} {WIDTHS}",
    ),
    _opinions("main-fashion", range(3)),
    _stages("main-fashion", range(3), (1000, 2000, 4000)),
    _trained(
        "main-emoji",
        "is ema_warmup_0.999 closer to the real images than the raw weights (emoji, colour)?",
        range(2),
        f"--dataset {EMOJI} --base-channels 32 --batch-size 32 --steps 6000 --precision float32 "
        "--no-evaluate --epoch-steps 500 --validation-images 200 --quality-every-epochs 0 "
        + RULES.format(lawa="lawa:5:500", swa="swa:3000"),
        f"{DRAW} {WIDTHS}",
    ),
)


def find(names):
    """The experiments of these names, in the order of the table; all where none is named.

    Raises:
        KeyError: there is none of a name.
    """
    known = {each.name: each for each in EXPERIMENTS}
    wanted = {known[name].name for name in names} or set(known)
    return [each for each in EXPERIMENTS if each.name in wanted]
