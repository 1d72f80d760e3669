"""What the study runs: a table of experiments, each a question, trainings and measurements.

The plan of the study, docs/study-plan.md, says what is compared and by which statistics. The
cheapest experiments come first. Commands are run from the folder that holds all runs.
"""

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
QUIET = f"{DIGITS} --epoch-steps 500 --quality-every-epochs 0"
AVERAGES = "--ema-rules warmup:0.99 warmup:0.999"
STAGE_WIDTHS = "--sigma-rel 0.05 0.1 0.15 0.25 --weights raw ema_warmup_0.99 ema_warmup_0.999"
GUIDED_WIDTHS = "--sigma-rel 0.05 0.075 0.1 0.15 0.2 0.25 --weights raw"


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


def _schedule(kind):
    asks = f"what does an average buy where the learning rate falls to zero ({kind})?"
    train = f"{QUIET} {AVERAGES} --lr-schedule {kind}"
    return _trained(f"rate-{kind}", asks, range(4), train, DRAW)


def _batch(size, steps, rate, scaled):
    """A training on as many images as `main-digits`, with 0.99 scaled by beta^(batch / 64)."""
    asks = f"does beta^k keep an average as good at a batch of {size}?"
    train = f"{QUIET} --batch-size {size} --steps {steps} --learning-rate {rate}"
    train += f" --warmup-steps {steps // 20} --log-every-steps {steps // 100}"
    train = train.replace("--epoch-steps 500", f"--epoch-steps {steps // 4}")
    rules = f"--ema-rules scaled=warmup:{scaled} warmup:0.99 warmup:0.999"
    return _trained(f"batch-{size}", asks, range(3), f"{train} {rules}", DRAW)


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
    _schedule("linear"),
    _schedule("cosine"),
    _trained(
        "guidance",
        "which length of average goes with which strength of guidance?",
        range(3),
        f"{QUIET} --conditional --snapshots 20 {AVERAGES}",
        *(
            f"--steps 25 --num-images 500 --guidance {strength} {GUIDED_WIDTHS}"
            for strength in ("1", "1.5", "2", "3", "4")
        ),
    ),
    _batch(256, 500, 0.002, 0.960596),
    _batch(16, 8000, 0.0005, 0.997491),
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
