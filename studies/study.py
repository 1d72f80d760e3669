"""The published study: what averages of the weights do to training, in numbers from files.

    python studies/study.py plan                      # what is to be run, and what is missing
    python studies/study.py run                       # all experiments, a day; goes on where it was
    python studies/study.py run main-digits           # one of them
    python studies/study.py collect runs/study        # gathers the numbers into docs/study/
    python studies/study.py write                     # docs/study.md, its figures, the README

`make study` does all of it. What is run stands in experiments.py, what is found in findings.py, and
the text in study.md.j2: every number in it comes from the files of docs/study, and nothing is
claimed that they do not show.
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jinja2

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import coverage_of_intervals  # noqa: E402
import effects  # noqa: E402
import emoji  # noqa: E402
import experiments  # noqa: E402
import figures  # noqa: E402
import findings  # noqa: E402
import results  # noqa: E402

from ddpm_keras import files  # noqa: E402
from ddpm_keras.app.run_directory import Run  # noqa: E402
from ddpm_keras.quality import protocol as protocols  # noqa: E402
from ddpm_keras.report import stability  # noqa: E402

RESULTS = ROOT / "docs" / "study"
FINISHED = "finished.txt"  # beside the runs: commands that ended well
BEGIN, END = "<!-- results -->", "<!-- /results -->"
RUNS = Path("runs/study")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    for name, words in (
        ("run", "train and measure what is missing (hours)"),
        ("plan", "print what would be run"),
    ):
        action = actions.add_parser(name, help=words)
        action.add_argument("experiments", nargs="*", help="their names (default: all)")
        action.add_argument("--root", type=Path, default=RUNS, help="where runs go")
    action = actions.add_parser("collect", help="gather the numbers of measured runs")
    action.add_argument("root", type=Path, help="where the runs are")
    action.add_argument("--out", type=Path, default=RESULTS)
    actions.add_parser("write", help="write docs/study.md, its figures and the README's results")
    options = parser.parse_args()
    if options.action in ("run", "plan"):
        {"run": run, "plan": plan}[options.action](options.root, chosen(parser, options))
    elif options.action == "collect":
        collect(options.root, options.out)
    else:
        write()


# Running


def chosen(parser, options):
    """The experiments that the command line names."""
    try:
        return experiments.find(options.experiments)
    except KeyError as error:
        known = ", ".join(each.name for each in experiments.EXPERIMENTS)
        parser.error(f"there is no experiment {error}; name some of {known}")


def plan(root, wanted):
    """Prints experiments with what is missing of them."""
    done = finished(root)
    for each in wanted:
        commands = [shlex.join(command) for seed in each.seeds for command in each.commands(seed)]
        missing = [command for command in commands if command not in done]
        print(f"{each.name}: {len(commands) - len(missing)} of {len(commands)} done; {each.asks}")
        print("".join(f"  {command}\n" for command in missing), end="")


def run(root, wanted):
    """Runs what is missing of experiments, in their order, in the folder `root`.

    The commands that ended well are kept in `root`/finished.txt, one a line; they are left out the
    next time. A training that was begun goes on.
    """
    root.mkdir(parents=True, exist_ok=True)
    make_emoji(root, wanted)
    for experiment in wanted:
        for seed in experiment.seeds:
            for command in experiment.commands(seed):
                if shlex.join(command) not in finished(root):
                    call(command, root)


def finished(root):
    """The commands that ended well."""
    path = root / FINISHED
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def make_emoji(root, wanted):
    """Draws the emoji, where an experiment wants them and they are not there."""
    folder = root / experiments.EMOJI
    if any(f"--dataset {experiments.EMOJI} " in each.train for each in wanted):
        if not folder.is_dir():
            emoji.main([str(folder)])


def call(command, root):
    """Runs a command of the project with this Python in `root`, and stops where it fails."""
    script, *options = command
    begun = script == "train.py" and Run(root / options[-1]).config_file.is_file()
    now = ["--resume", "--run-dir", options[-1]] if begun else options
    print(f"\n$ {shlex.join([script, *now])}", flush=True)
    place = ROOT / script
    subprocess.run([sys.executable, str(place), *now], check=True, cwd=root)
    with open(root / FINISHED, "a", encoding="utf-8") as file:
        file.write(shlex.join(command) + "\n")


def collect(root, out):
    """Gathers the numbers of the runs in `root`.

    Raises:
        SystemExit: none is trained and measured.
    """
    if not any(root.glob("*/evaluation.json")):
        sys.exit(f"{root} holds no evaluated run; first: python studies/study.py run")
    print(f"{results.collect(root, out)} runs: {out}")


# Writing


def estimate(effect, form=".2f"):
    """An `Effect` as text: the estimate, and the interval where there is one."""
    if effect is None:
        return "–"
    if effect.low is None:
        return format(effect.estimate, form)
    return f"{effect.estimate:{form}} ({effect.low:{form}} to {effect.high:{form}})"


def p_value(tested):
    """The corrected p of a `Tested` as text."""
    if tested is None or tested.corrected is None:
        return "–"
    return "below 0.001" if tested.corrected < 0.001 else f"{tested.corrected:.3f}"


def listing(called):
    """Names in code letters, joined by commas and "and"."""
    code = [f"`{name}`" for name in called]
    return " and ".join([", ".join(code[:-1]), code[-1]] if len(code) > 1 else code)


def protocol(about, name=effects.PRIMARY):
    """The protocol of a weight set of an experiment, as the evaluations of its runs say it."""
    average = about["averages"].get(name, {})
    return protocols.line(name, average.get("rule", ""), average.get("window"), about["way"])


def environment():
    """Jinja2 with the formats of the study; a name that is missing is an error."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"estimate": estimate, "p": p_value, "listing": listing}
    found.filters |= {"protocol": protocol}
    found.globals |= {
        "definitions": stability.DEFINITIONS,
        "experiments": experiments.EXPERIMENTS,
        "data": findings.MAINS,
        "primary": effects.PRIMARY,
        "short": effects.SHORT,
        "coverage": files.read_record(coverage_of_intervals.OUT)["rows"],
        "zip": zip,
    }
    return found


def tidy(text):
    """Without the blank lines and spaces that the templates' own lines leave."""
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip() + "\n"


def render(study, found, readme):
    """The texts: `(docs/study.md, README.md)` from the findings and the README as it is."""
    templates = environment()
    page, section = (
        tidy(templates.get_template(name).render(about=study.about, f=found))
        for name in ("study.md.j2", "results.md.j2")
    )
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return page, f"{before}{BEGIN}\n{section}{END}{after}"


def write(folder=RESULTS, out=ROOT):
    """Writes docs/study.md, the figures and the results of README.md below `out`."""
    study = results.read(folder)
    found = findings.everything(study)
    page, readme = render(study, found, (ROOT / "README.md").read_text(encoding="utf-8"))
    for name, figure in figures.draw(study, found, folder).items():
        with files.atomic_path(out / "docs" / "study" / f"figure-{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=130)
    files.write_text(out / "docs" / "study.md", page)
    files.write_text(out / "README.md", readme)
    print(f"{out / 'docs' / 'study.md'}, its figures and the results in {out / 'README.md'}")


if __name__ == "__main__":
    main()
