"""Slips of the hand, each with the test that must find it.

    python tests/faults.py             put each into a copy of the code, and run its test
    python tests/faults.py history     only those with this word in their name or file

tests/mutants.py makes small faults by rule in the arithmetic. These are made by hand where the
parts meet: a seed that is not passed on, columns that are swapped, an option that is ignored. A
fault is a piece of the code, which must be there once, and what stands in its place.
"""

import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = ("ddpm_keras", "tests", "studies", "train.py", "sample.py", "evaluate.py")
COPIED += ("pyproject.toml",)


@dataclasses.dataclass(frozen=True)
class Fault:
    """What goes wrong, where, the piece of code, what it becomes, and the test that finds it."""

    name: str
    path: str
    right: str
    wrong: str
    test: str


SAMPLE = "test_sample_command.py::test_options_are_arguments_of_sample"
HISTORY = "test_callbacks.py::test_history_holds_what_was_measured_of_each_weight_set"
HISTORY += "_to_seven_digits"
PICTURES = "test_callbacks.py::test_samples_of_every_weight_set"
MODEL_OPTIONS = "test_training.py::test_options_of_the_model"
CALLBACK_OPTIONS = "test_training.py::test_options_of_the_callbacks"
STREAM = "test_training.py::test_the_stream_is_that_of_the_seed_the_step_and_the_flips"
METRICS = "test_quality_arithmetic.py::test_evaluation_of_features_has_every_number"

# fmt: off
FAULTS = [Fault(*fault) for fault in (
    # pictures
    ("pictures side by side lie on each other", "images.py",
     "left += picture.width + margin", "left += 0",
     "test_images.py::test_side_by_side_shows_each_picture_under_its_title"),
    ("tiles of a grid run column by column", "images.py",
     "top, left = index // columns * (height + gap), index % columns * (width + gap)",
     "top, left = index % rows * (height + gap), index // rows * (width + gap)",
     "test_images.py::test_grid_is_about_square_with_white_gaps_and_enlarged_by_a_whole_factor"),
    ("files of a folder of images start at 1", "images.py",
     'path / f"{index:06d}.png"', 'path / f"{index + 1:06d}.png"',
     "test_images.py::test_written_pixels_come_back"),
    ("the picture of an average shows the raw weights", "callbacks/samples.py",
     "weights=name,", 'weights="raw",', PICTURES),
    ("pictures ignore their seed", "callbacks/samples.py", "seed=self.seed", "seed=0", PICTURES),
    ("pictures are named an epoch early", "callbacks/samples.py",
     "self.draw(epoch + 1)", "self.draw(epoch)", PICTURES),
    # history and other records
    ("history has two digits", "app/recorders.py", ":.7g}", ":.2g}", HISTORY),
    ("history has the window in the column of beta", "app/recorders.py",
     "= ema.beta(name)", "= ema.effective_window(name)",
     "test_callbacks.py::test_history_has_a_row_an_interval_and_validation_at_each_epoch"),
    ("images a second are those of a whole interval", "app/recorders.py",
     "batches * self.batch_size", "self.every_steps * self.batch_size",
     "test_callbacks.py::test_rates_in_the_history_are_those_of_its_rows"),
    ("every validation loss is that of the raw weights", "callbacks/validation.py",
     "weights=name,", 'weights="raw",', HISTORY),
    ("validation ignores its repeats", "callbacks/validation.py",
     "repeats=self.repeats", "repeats=1", HISTORY),
    ("distances are relative to the average", "callbacks/trajectory.py",
     "np.sqrt(apart / raw)", "np.sqrt(apart / own)",
     "test_trajectory.py::test_distances_and_cosines_are_exact"),
    ("one checkpoint too many is kept", "app/checkpoints.py", "[:-keep]", "[: -keep - 1]",
     "test_run.py::test_checkpoints_are_kept_and_restored"),
    ("the oldest checkpoint is restored", "app/checkpoints.py",
     "next((path for path in reversed(records)", "next((path for path in records",
     "test_run.py::test_checkpoints_are_kept_and_restored"),
    # the commands
    ("auto precision is bfloat16 on a CPU", "app/devices.py",
     'else "float32"]', 'else "bfloat16"]',
     "test_devices.py::test_auto_is_the_precision_that_every_gpu_is_fast_in"),
    ("auto precision is that of the best GPU", "app/devices.py",
     "min(capabilities, default", "max(capabilities, default",
     "test_devices.py::test_auto_is_the_precision_that_every_gpu_is_fast_in"),
    ("sample.py ignores --labels", "app/modes.py", "labels = _labels(options.labels, start, count)",
     "labels = None", SAMPLE),
    ("sample.py ignores --guidance", "../sample.py", '"guidance_scale": options.guidance,',
     '"guidance_scale": 1.0,', SAMPLE),
    ("sample.py ignores --seed", "../sample.py", '"seed": options.seed', '"seed": 0', SAMPLE),
    ("sample.py ignores --steps", "app/modes.py",
     "options.steps or min(usual,", "min(usual,", SAMPLE),
    ("sample.py always draws with the average", "../sample.py",
     '"weights": weights,', '"weights": "ema",', SAMPLE),
    # training
    ("no warm-up of the learning rate", "app/optimization.py",
     "warmup, peak) if warmup else peak", "warmup, peak) if False else peak", MODEL_OPTIONS),
    ("--clip-norm is ignored", "app/optimization.py",
     "global_clipnorm=options.clip_norm or None", "global_clipnorm=1.0", MODEL_OPTIONS),
    ("a decay of the learning rate forgets the warm-up", "app/optimization.py",
     "CosineDecay(0.0, steps - warmup,", "CosineDecay(0.0, steps,",
     "test_optimization.py::test_learning_rates_are_their_closed_forms"),
    ("--accumulate is ignored", "app/training.py",
     "accumulation_steps=options.accumulate", "accumulation_steps=1", MODEL_OPTIONS),
    ("Adam has the epsilon of Keras", "app/optimization.py",
     "EPSILON = 1e-8", "EPSILON = 1e-7", MODEL_OPTIONS),
    ("--flip is not passed on", "app/training.py", "flip=options.flip", "flip=False", STREAM),
    ("the stream starts again at each part of a run", "app/training.py",
     "start_step=step(model)", "start_step=done", STREAM),
    ("snapshots come once an epoch", "app/observing.py",
     "options.steps // options.snapshots", "options.epoch_steps", CALLBACK_OPTIONS),
    ("validation sees the first images only", "app/observing.py",
     "np.linspace(0, len(images.held_out) - 1, count).round().astype(int)", "np.arange(count)",
     CALLBACK_OPTIONS),
    ("network-ema.keras holds the raw weights", "app/training.py",
     'model.export_network("ema"', 'model.export_network("raw"',
     "test_training.py::test_the_network_to_ship_holds_the_last_average"),
    ("no label is dropped in training", "ddpm.py",
     "< self.label_dropout", "< 0.0",
     "test_ddpm.py::test_a_share_of_the_labels_is_dropped_in_training"),
    ("images get class 0 unless told otherwise", "sampling.py",
     "np.arange(self.start, self.start + self.num_images) % model.num_classes",
     "np.zeros(self.num_images, int)",
     "test_ddpm.py::test_images_get_the_classes_in_turn_unless_told_otherwise"),
    ("validation leaves out the last batch", "ddpm.py",
     "for start in range(0, len(images), batch_size):",
     "for start in range(0, len(images) - batch_size + 1, batch_size):",
     "test_ddpm.py::test_evaluate_is_the_same_at_every_call_and_batch_size"),
    ("guidance goes the other way", "guidance.py",
     "scale * (good - worse)", "scale * (worse - good)",
     "test_guidance.py::test_guidance_goes_on_from_the_worse_through_the_good"),
    ("a guide has the weights that it guides", "predictor.py",
     "with self.weight_scope(guide):", "if True:",
     "test_guidance.py::test_a_guide_has_the_label_of_what_it_guides"),
    # data
    ("flips are ignored", "data/stream.py", "if flip:", "if False:",
     "data/test_stream.py::test_flip_mirrors_left_and_right"),
    ("images are turned upside down", "data/stream.py",
     "tf.reverse(x, axis=[2])", "tf.reverse(x, axis=[1])",
     "data/test_stream.py::test_flip_mirrors_left_and_right"),
    ("the order of images ignores the seed", "data/stream.py",
     "tf.constant([seed, 0], tf.int64)", "tf.constant([0, 0], tf.int64)",
     "data/test_stream.py::test_seeds_give_other_orders_and_epochs_are_uniform"),
    ("a stream is resumed a few images on", "data/stream.py",
     "start_step * batch_size", "start_step",
     "data/test_stream.py::test_batch_depends_on_seed_and_step_alone"),
    ("the held-out part is taken from the first class", "data/split.py",
     "random.permutation(members)[:number]", "random.permutation(groups.size)[:number]",
     "data/test_split.py::test_shares_are_rounded_by_the_largest_remainder"),
    # averages
    ("ema means the first average", "ema/evaluation.py",
     "return self.weight_sets[-1]", "return self.weight_sets[min(1, len(self.weight_sets) - 1)]",
     "test_ema_model.py::test_weight_sets_and_their_names"),
    ("averages are no weights of the model", "ema/state.py",
     "return [*super().weights, *self._state_of_averages()]", "return super().weights",
     "test_ema_as_weights.py::test_averages_follow_the_weights"),
    ("averages stay behind weights that are loaded in part", "ema/state.py",
     "        if not whole:", "        if whole:",
     "test_ema_as_weights.py::test_averages_do_not_stay_behind_weights_that_are_loaded_in_part"),
    ("averages stay behind weights that are replaced after fit", "ema/optimizer.py",
     "        self.ema.leave()", "        pass",
     "test_ema_optimizer_saving.py"
     "::test_averages_do_not_stay_behind_weights_that_are_replaced_after_fit"),
    ("weights that are put back after fit start averages anew", "ema/variables.py",
     "(self._left and not (training or begun_again))", "False",
     "test_ema_optimizer_saving.py"
     "::test_averages_do_not_stay_behind_weights_that_are_replaced_after_fit"),
    ("values of rules are looked at when they are made", "app/calls.py",
     "signatures.check(self.among, self.kind, arguments)", "pass",
     "test_calls.py::test_they_are_refused_before_tensorflow_is_loaded"),
    ("images are encoded from the noisy end", "samplers/inversion.py",
     "np.append(0, grid[::-1] if", "np.append(0, grid if",
     "test_drawing.py::test_ddim_comes_back_to_the_images"),
    ("the raw weights are exported", "ema/model.py",
     "network = self.export_network()", 'network = self.export_network("raw")',
     "test_export.py::test_the_network_is_exported_with_the_evaluation_weights"),
    ("an exported sampler starts at image 0", "exporting.py",
     "image_seeds(seed, start, num_images)", "image_seeds(seed, 0, num_images)",
     "test_export.py::test_a_sampler_runs_by_tensorflow_alone_and_draws_what_the_model_draws"),
    ("an average moves at every micro-batch", "ema/moving.py",
     "tf.cond(usable, lambda: self._count(strategy, weights), lambda: None)",
     "self._count(strategy, weights)",
     "test_ema.py::test_a_step_that_was_not_made_changes_nothing"),
    # quality
    ("precision and recall are swapped", "quality/neighbours.py",
     "check_pair(sets.real, sets.generated, min_rows",
     "check_pair(sets.generated, sets.real, min_rows",
     METRICS),
    ("the distance to held-out images is that to the others", "quality/frechet.py",
     "distance(sets.held_out, sets.generated)", "distance(sets.real, sets.generated)", METRICS),
    ("features leave out the last batch", "quality/extractors/base.py",
     "range(0, len(images), self.batch_size)",
     "range(0, len(images) - self.batch_size + 1, self.batch_size)",
     "test_quality_evaluation.py::test_array_and_function_give_the_same_features"),
    ("differences are those of raw to each average", "app/measuring.py",
     "value - known[names.RAW], influences[name] - influences[names.RAW]",
     "known[names.RAW] - value, influences[names.RAW] - influences[name]",
     "test_evaluation.py::test_differences_are_of_each_average_to_the_raw_weights"),
    ("the table has recall under precision", "app/table.py",
     "number.text(getattr(row, key)", 'number.text(getattr(row, "recall")',
     "test_evaluation.py::test_the_table_has_each_number_under_its_heading"),
    ("evaluation ignores --guidance", "app/drawn.py",
     '"guidance_scale": self.guidance', '"guidance_scale": 1.0',
     "test_evaluation.py::test_images_are_drawn_as_the_options_say"),
    ("evaluation takes the other part of the images", "app/references.py",
     'return real[name.replace("-", "_")]',
     'return real["held_out" if name == "train" else "train"]',
     "test_evaluation.py::test_the_reference_is_the_part_that_is_named"),
    # what a run survives
    ("a run directory is several processes' at a time", "app/alone.py",
     "        lock.acquire()\n", "        pass\n",
     "test_survival.py::test_a_directory_made_for_a_lock_goes_with_it_unless_something_was_written"),
    ("rows of the history may come before the first checkpoint", "app/recorders.py",
     "            self.flush()  # nothing", "            self.save()  # nothing",
     "test_survival.py::test_nothing_is_recorded_before_the_first_checkpoint_is_there"),
    ("a checkpoint that failed is forgotten", "app/recorders.py",
     "                each.result()\n", "                pass\n",
     "test_checkpoints.py::test_a_checkpoint_that_cannot_be_written_ends_training"),
    ("the checksum of an archive is not compared", "reading/seals.py",
     "if found and sha256(path, without=_DIGITS).encode() != end[-_DIGITS:]:", "if False:",
     "test_checksums.py::test_a_flip_of_any_byte_is_found"),
    ("the checksum of a record is not compared", "checksums.py",
     "    if text != sealed_text(record):\n", "    if not text:\n",
     "test_checksums.py::test_a_flip_of_any_byte_is_found"),
    ("a torn row of the history is glued to the next", "app/history.py",
     'is_torn = file.read() != b"\\n"', "is_torn = False",
     "test_checksums.py::test_a_torn_row_is_never_glued_to_the_next"),
    ("rows that a history has lost are not missed", "app/history.py",
     "if missing > 0 and", "if missing > 9 and",
     "test_belonging.py::test_rows_that_are_gone_are_missed"),
    ("files that a run has lost are not missed", "app/inventory.py",
     "    if any(lost):\n", "    if not lost:\n",
     "test_inventory.py::test_what_is_gone_is_said_once"),
    ("held-out images may be trained on", "data/doubts.py",
     "    if seen:\n", "    if seen < 0:\n",
     "data/test_doubts.py::test_what_is_odd_is_said"),
    ("averages that are restored start anew", "ema/variables.py",
     "if replaced and not self._came_along():", "if replaced:",
     "test_ema_optimizer_saving.py::test_averages_that_are_restored_with_their_weights_go_on"),
    ("weights may change their places unseen", "ema/groups.py",
     "odd = 2 * tf.range(begin, end, dtype=tf.int64) + 1", "odd = tf.ones((), tf.int64)",
     "test_ema_groups.py::test_a_fingerprint_sees_every_bit_and_its_place"),
    ("evaluate passes over a weight_scope unsaid", "ema/evaluation.py",
     '_refuse_other_weights("evaluate")', "pass",
     "test_evaluation_weights.py"
     "::test_a_scope_is_not_silently_other_weights_than_evaluation_weights"),
    ("losses of layers count once a replica", "ddpm.py",
     "(tf.reduce_mean(per_image) + added)", "(tf.reduce_mean(per_image)) + added",
     "test_penalties.py::test_on_two_replicas"),
    ("a kill of workers is left to TensorFlow", "app/devices.py",
     "interrupt.listen_again()", "pass",
     "test_workers.py::test_a_signal_comes_though_tensorflow_takes_those_of_workers"),
    ("a first checkpoint that is there is written anew", "app/recorders.py",
     " and not self.run.has_checkpoint(0)", "",
     "test_survival.py::test_a_first_checkpoint_that_is_there_is_not_written_anew"),
    ("files of another run are taken", "reading/owners.py",
     "return of_place(path) not in (named, None)", "return False",
     "test_belonging.py::test_a_checkpoint_of_another_run_is_passed_over_and_kept_aside"),
    ("what TensorBoard was shown later than a step stays", "callbacks/events.py",
     "if of is not None and of <= step]", "if of is not None]",
     "test_events.py::test_what_is_later_is_removed_and_seen_once"),
    ("images in a prepared file are not checked", "data/rows.py",
     "            is_whole = zlib.crc32(content) == self.checksums[number]\n", "            pass\n",
     "data/test_prepared.py::test_damaged_images_are_told_when_they_are_read"),
    # what a file may do
    ("a file may unpack to anything", "reading/bounds.py",
     "if needed > max(most(), _RATIO * length):", "if needed < 0:",
     "test_reading.py::test_a_file_may_take_so_much"),
    ("JSON that gives a name twice is merged", "reading/json_text.py",
     "    if len(found) < len(pairs):\n", "    if not found:\n",
     "test_reading.py::test_json_that_is_refused"),
    # speed
    ("the slope of swish is that of its gate", "networks/fused.py",
     "gate * (1.0 + z * (1.0 - gate))", "gate",
     "test_fused.py::test_equals_the_plain_form_with_its_gradients"),
    ("dropout drops the same places at every step", "networks/masks.py",
     "words = mixed(mixed(places ^ first) + second)", "words = mixed(mixed(places))",
     "test_fused.py::test_the_mask_is_a_function_of_the_state_of_the_generator"),
    ("Adam does not correct its moments for their beginning", "ema/fused.py",
     "step = tf.cast(adam.iterations + 1, dtype)", "step = tf.cast(100_000, dtype)",
     "test_traces.py::test_adam_in_one_operation_is_that_of_keras"),
    ("a guided network is compiled as a whole", "sampling.py",
     "compiles = not guided and _compiles(", "compiles = _compiles(",
     "test_traces.py::test_a_compiled_network_draws_the_same_images"),
    ("a resumed run measures its precision again", "app/precision.py",
     "    if options.resume:\n", "    if False:\n",
     "test_precision.py::test_a_run_that_is_continued_computes_as_it_began"),
)]
# fmt: on


def main(words):
    chosen = [f for f in FAULTS if all(word in f"{f.name} {f.path}" for word in words)]
    if not chosen:
        sys.exit(f"No fault has {' and '.join(words)} in its name or file.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        import_what_takes_long(copy)
        if run_tests(copy, {fault.test for fault in chosen}):
            sys.exit("These tests fail without a fault; see above.")
        missed = [fault for fault in chosen if not is_found(copy, fault)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults are found.")
    sys.exit(bool(missed))


def import_what_takes_long(copy):
    """Once, before the tests are run in forked processes; nothing of this package."""
    os.environ |= {f"TF_NUM_{kind}_THREADS": "1" for kind in ("INTRAOP", "INTEROP")}
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "MPLBACKEND": "Agg"}
    sys.dont_write_bytecode = True  # a fault may have the size and the second of the right code
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path) != Path(__file__).parent)]
    import keras  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.datasets  # noqa: F401


def is_found(copy, fault):
    """Whether the test fails with the fault in the code; says so."""
    file = copy / "ddpm_keras" / fault.path
    right = file.read_text(encoding="utf-8")
    if right.count(fault.right) != 1:
        print(f"STALE  {fault.name}: {fault.path} holds it {right.count(fault.right)} times")
        return False
    file.write_text(right.replace(fault.right, fault.wrong), encoding="utf-8")
    found = run_tests(copy, [fault.test], quietly=True) == 1
    file.write_text(right, encoding="utf-8")
    print(f"{'found ' if found else 'MISSED'} {fault.name} ({fault.test})", flush=True)
    return found


def run_tests(copy, tests, quietly=False):
    """The exit status of pytest in a process of its own: 0 passed, 1 failed."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.chdir(copy)
    if quietly:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider"]
    os._exit(pytest.main([*options, *(f"tests/{test}" for test in sorted(tests))]))


if __name__ == "__main__":
    main(sys.argv[1:])
