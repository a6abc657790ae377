"""Each guard is there for a reason: taken out of a copy of the project, the test named beside it fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

# the file in captioning/, what stands there, what stands there without the guard, the test that must notice
GUARDS = [
    ("storage.py", "os.fsync(file.fileno())", "pass", "storage.py::test_what_is_written_is_on_the_disk_before"),
    ("storage.py", "temporary.unlink(missing_ok=True)", "pass", "storage.py::test_what_the_disk_refuses"),
    ("storage.py", "if bytes_needed > free:", "if False:", "storage.py::test_what_does_not_fit"),
    ("storage.py", "if not is_ours:", "if False:", "storage.py::test_a_second_holder"),
    ("storage.py", "sync_folder(path.parent)", "pass", "storage.py::test_what_is_written_is_on_the_disk_before"),
    ("checkpoint.py", "if not source.exists():", "if True:", "checkpoint.py::test_where_the_newest_is_damaged"),
    ("checkpoint.py", "os.replace(source, path)", "pass", "checkpoint.py::test_where_the_newest_is_damaged"),
    ("checkpoint.py", "_compare(saved, recipe, source)", "pass", "checkpoint.py::test_another_recipe"),
    ("checkpoint.py", "parts.testzip()", "None", "checkpoint.py::test_a_header_that_numpy_stumbles_over"),
    ("training.py", "if not math.isfinite(loss):", "if False:", "training.py::test_a_loss_that_is_no_number"),
    ("training.py", "if not all(np.isfinite(weight).all()", "if not all(True", "training.py::test_weights_that_are_no"),
    ("training.py", "require_space(self", "False and require_space(self", "training.py::test_a_disk_too_small"),
    ("training.py", "zip(self.means,", "zip((),", "training.py::test_stopped_after_every_step"),
    ("bundle.py", "hexdigest() != sums.get(name)", "hexdigest() is None", "bundle.py::test_a_file_with_one_other_byte"),
    ("bundle.py", " or path.is_symlink()", "", "bundle_hostile.py::test_a_link_is_not_followed"),
    ("bundle.py", "Path(name).name != name or ", "", "bundle.py::test_a_file_outside"),
    ("bundle.py", "if not is_intact:", "if False:", "bundle_hostile.py::test_another_byte_in_the_config"),
    ("bundle.py", "config.vocabulary_size != len(tokenizer)", "False", "bundle.py::test_a_vocabulary_of_another_size"),
    ("bundle.py", "if not all(np.isfinite", "if not all(np.ones_like", "bundle.py::test_weights_that_are_not_numbers"),
    ("bundle.py", "look_over(folder", "False and look_over(folder", "bundle_hostile.py::test_weights_that_are_not"),
    ("bundle.py", "if count_weights(config) > ", "if 0 > ", "bundle_hostile.py::test_a_network_larger_than"),
    ("bundle.py", "st_size > LONGEST_TEXT", "st_size < 0", "bundle_hostile.py::test_endless_text"),
    ("bundle.py", "if not _answer_alike(probe(encoder), saved.probe)", "if False", "bundle_encoders.py"),
    ("bundle.py", "    if folder.exists():  # else", "    if True:  # else", "bundle.py::test_after_that_kill_a_save"),
    ("bundle.py", "and _aside(folder).exists()", "and False", "bundle.py::test_a_kill_in_the_middle_of_the_swap"),
    ("weights.py", "if count > most:", "if False:", "bundle_hostile.py::test_weights_that_are"),
    ("weights.py", "while h5py.h5pl.size():", "while False:", "bundle_hostile.py::test_hdf5_has_no_folder"),
    ("tokenizer.py", "def find_class", "def find_no_class", "tokenizer.py::test_poisoned_pickles"),
    ("images.py", "    _check_png_header(file, name)", "    pass", "images.py::test_a_bomb_is_refused_from"),
    ("images.py", "    if width * height > MAX_PIXELS:", "    if False:", "images.py::test_other_formats"),
    ("images.py", "formats=FORMATS", "formats=None", "images.py::test_what_is_no_readable_picture"),
    ("images.py", "if orientation in TRANSPOSE", "if False", "images.py::test_exif_orientation"),
    ("images.py", 'picture.mode.startswith("I;16")', "False", "images.py::test_grey_in_any_depth"),
    ("images.py", "STRIP // width // down", "STRIP", "images.py::test_a_huge_transparent_picture"),
    ("check.py", "if lost > most * total:", "if False:", "recipe.py::test_a_folder_with_damage"),
    ("data.py", "elif flaw := _flaw(row):", 'elif flaw := "":', "data.py::test_bad_lines_are_skipped"),
    ("features.py", "if not np.isfinite(grids).all():", "if False:", "features_cache.py::test_features_that_are_not"),
    ("glove.py", "if not (np.abs(numbers) < 1e30).all():", "if False:", "glove.py::test_damage_is_refused"),
    ("download.py", "_check_archive(source, archive)", "pass", "download_archives.py::test_hostile_archives"),
    ("download.py", "if found != expected else", "if False else", "download.py::test_wrong_hash_is_deleted"),
    ("download.py", "_kept(part)[1:] != (int(", "() == (int(", "download.py::test_a_changed_file_whose_server"),
    ("captioner.py", "if np.isnan(found", "if False and np.isnan(found", "captioner.py::test_numbers_that_are_none"),
    ("app/guard.py", "if path.startswith(CLOSED) or", "if", "app_guard.py::test_doors_of_gradio"),
    ("app/guard.py", "> LONGEST_NAME", "< 0", "app_guard.py::test_names_that_no_disk_has"),
    ("app/guard.py", "        return STRANGER", "        return None", "app_guard.py::test_no_door_opens"),
    ("app/guard.py", "        return FOREIGN", "        return None", "app_guard.py::test_other_pages"),
    ("app/guard.py", "        return ELSEWHERE", "        return None", "app_guard.py::test_without_a_password"),
    ("app/guard.py", "elif left < 0:", "elif False:", "app_guard.py::test_long_questions"),
    ("app/guard.py", "if left < 0 or message", "if message", "app_guard.py::test_uploads_stop"),
    ("app/guard.py", ' or message["type"] == "http.disconnect"', "", "app_guard.py::test_of_an_upload_that_breaks_off"),
    ("app/guard.py", '["x-content-type-options"] =', '["x-nothing"] =', "app_guard.py::test_uploads_come_back"),
    ("app/guard.py", "os.remove(path)", "pass", "app_guard.py::test_old_files"),
    ("app/throttle.py", "if len(tries) >= MOST:", "if False:", "app_throttle.py::test_ten_wrong_passwords"),
    ("app/throttle.py", "self._forget(now - WINDOW)", "pass", "app_throttle.py::test_no_address_is_remembered"),
    ("app/manners.py", "sh.get = sh.async_validate_url = refuse", "pass", "app_guard.py::test_nothing_is_fetched"),
    ("app/manners.py", '| {"print_exc": _print_failure}', "", "app_guard.py::test_what_failed_is_printed"),
    ("app/shelf.py", "answer.result(LONGEST)", "answer.result()", "app_shelf.py::test_one_that_hangs"),
    ("app/shelf.py", "        with self._lock:", "        if True:", "app.py::loaded_once or large_files"),
    ("app/page.py", "max_size=WAITING", "max_size=None", "app.py::test_everybody_is_answered"),
    ("extras/feedback.py", ">= MAX_ENTRIES:", "< 0:", "feedback.py::test_a_store_takes_only_so_much"),
    ("extras/feedback.py", "elif mark != MARK:", "elif False:", "feedback_disk.py::test_a_database_of_another_kind"),
    ("extras/feedback.py", 'database.execute("COMMIT")', "pass", "feedback.py::test_what_is_added"),
    ("extras/feedback.py", "CONTROL_CHARACTER.search(text)", "False", "feedback.py::test_what_cannot_be_kept"),
    ("book.py", "isinstance(cell, str) and FORMULA", "False and FORMULA", "feedback.py::test_no_cell_is_a_formula"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "project"
    apart = shutil.ignore_patterns(".git", ".venv", "data", "runs", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=apart, symlinks=True)
    return folder


def run(copy: Path, test: str) -> tuple[int, str]:
    """Pytest's exit status, and the last it said; a test that hangs has noticed."""
    file, _, name = test.partition("::")
    command = [sys.executable, "-m", "pytest", "-x", "-q", f"tests/test_{file}", "-k", name or "test", "-o", "addopts="]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return 1, "hangs"
    return done.returncode, done.stdout[-1500:]


def test_every_guard_is_missed_by_its_test(copy, record_property):
    for test in sorted({test for *_, test in GUARDS}):
        status, said = run(copy, test)
        assert status == 0, f"{test} fails with all guards in place: {said}"
    unnoticed = []
    for name, guard, without, test in GUARDS:
        path = copy / "captioning" / name
        whole = path.read_text()
        assert guard in whole, f"{name} no longer says {guard}"
        path.write_text(whole.replace(guard, without))
        try:
            status, said = run(copy, test)
        finally:
            path.write_text(whole)
        if status != 1 or "ERROR collecting" in said:
            unnoticed.append(f"{name}: {guard}")
    record_property("guards taken out", len(GUARDS))
    record_property("unnoticed", len(unnoticed))
    assert not unnoticed
