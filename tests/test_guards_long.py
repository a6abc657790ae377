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
    (
        "runtime/files.py",
        "os.fsync(file.fileno())",
        "pass",
        "runtime/test_files.py::test_what_is_written_is_on_the_disk_before",
    ),
    (
        "runtime/files.py",
        "temporary.unlink(missing_ok=True)",
        "pass",
        "runtime/test_files.py::test_what_the_disk_refuses",
    ),
    ("runtime/files.py", "if bytes_needed > free:", "if False:", "runtime/test_files.py::test_what_does_not_fit"),
    ("runtime/files.py", "if not is_ours:", "if False:", "runtime/test_files.py::test_a_second_holder"),
    (
        "runtime/files.py",
        "sync_folder(path.parent)",
        "pass",
        "runtime/test_files.py::test_what_is_written_is_on_the_disk_before",
    ),
    (
        "training/checkpoint.py",
        "if not source.exists():",
        "if True:",
        "training/test_checkpoint.py::test_where_the_newest_is_damaged",
    ),
    (
        "training/checkpoint.py",
        "os.replace(source, path)",
        "pass",
        "training/test_checkpoint.py::test_where_the_newest_is_damaged",
    ),
    (
        "training/checkpoint.py",
        "_compare(saved, recipe, source)",
        "pass",
        "training/test_checkpoint.py::test_another_recipe",
    ),
    (
        "training/checkpoint.py",
        "parts.testzip()",
        "None",
        "training/test_checkpoint.py::test_a_header_that_numpy_stumbles_over",
    ),
    (
        "training/callbacks.py",
        "if not math.isfinite(loss):",
        "if False:",
        "training/test_trainer.py::test_a_loss_that_is_no_number",
    ),
    (
        "training/trainer.py",
        "if not all(np.isfinite(weight).all()",
        "if not all(True",
        "training/test_trainer.py::test_weights_that_are_no",
    ),
    (
        "training/trainer.py",
        "require_space(self",
        "False and require_space(self",
        "training/test_trainer.py::test_a_disk_too_small",
    ),
    ("training/callbacks.py", "zip(self.means,", "zip((),", "training/test_trainer.py::test_stopped_after_every_step"),
    (
        "inference/bundle_files.py",
        "hexdigest() != hashes.get(name)",
        "hexdigest() is None",
        "inference/test_bundle.py::test_a_file_with_one_other_byte",
    ),
    (
        "inference/bundle_files.py",
        '"O_NOFOLLOW", ',
        "",
        "inference/test_bundle_hostile.py::test_a_link_is_not_followed",
    ),
    (
        "inference/bundle_files.py",
        "if Path(name).name != name:",
        "if False:",
        "inference/test_bundle.py::test_a_file_outside",
    ),
    (
        "inference/bundle_files.py",
        'config.pop("sum", None) not in (None, _sum(config))',
        'config.pop("sum", None) is ...',
        "inference/test_bundle_hostile.py::test_another_byte_in_the_config",
    ),
    (
        "inference/bundle.py",
        "config.vocabulary_size != len(tokenizer)",
        "False",
        "inference/test_bundle.py::test_a_vocabulary_of_another_size",
    ),
    (
        "inference/bundle.py",
        "if not all(np.isfinite",
        "if not all(np.ones_like",
        "inference/test_bundle.py::test_weights_that_are_not_numbers",
    ),
    (
        "inference/bundle.py",
        "validate_hdf5(folder",
        "False and validate_hdf5(folder",
        "inference/test_bundle_hostile.py::test_weights_that_are_not",
    ),
    (
        "inference/bundle.py",
        "if count_weights(config) > ",
        "if 0 > ",
        "inference/test_bundle_hostile.py::test_a_network_larger_than",
    ),
    (
        "inference/bundle_files.py",
        "if len(data) > most:",
        "if False:",
        "inference/test_bundle_hostile.py::test_endless_text",
    ),
    (
        "inference/bundle.py",
        "if not _matches(probe(encoder), saved.probe)",
        "if False",
        "inference/test_bundle_encoders.py",
    ),
    (
        "inference/bundle_writer.py",
        "    if folder.exists():  # else",
        "    if True:  # else",
        "inference/test_bundle.py::test_after_that_kill_a_save",
    ),
    (
        "inference/bundle.py",
        "and aside(folder).exists()",
        "and False",
        "inference/test_bundle.py::test_a_kill_in_the_middle_of_the_swap",
    ),
    (
        "inference/weights_file.py",
        "if count > most:",
        "if False:",
        "inference/test_bundle_hostile.py::test_weights_that_are",
    ),
    (
        "inference/weights_file.py",
        "while h5py.h5pl.size():",
        "while False:",
        "inference/test_bundle_hostile.py::test_hdf5_has_no_folder",
    ),
    ("data/tokenizer.py", "def find_class", "def find_no_class", "data/test_tokenizer.py::test_poisoned_pickles"),
    (
        "data/images.py",
        "    if width * height > limit:",
        "    if False:",
        "data/test_image_containers.py::test_other_formats",
    ),
    ("data/images.py", "if not stat.S_ISREG(", "if False and (", "data/test_image_index.py"),
    ("data/images.py", "if orientation in TRANSPOSE", "if False", "data/test_images.py::test_exif_orientation"),
    ("data/images.py", 'picture.mode.startswith("I;16")', "False", "data/test_images.py::test_grey_in_any_depth"),
    ("data/images.py", "STRIP // width // down", "STRIP", "data/test_images.py::test_a_huge_transparent_picture"),
    ("data/check.py", "if lost > most * total:", "if False:", "training/test_recipe.py::test_a_folder_with_damage"),
    (
        "data/dataset.py",
        "if (flaw := _flaw(row)) else None",
        'if (flaw := "") else None',
        "data/test_dataset.py::test_bad_lines_are_skipped",
    ),
    (
        "encoders/features.py",
        "if not np.isfinite(grids).all():",
        "if False:",
        "encoders/test_features_cache.py::test_features_that_are_not",
    ),
    (
        "data/glove.py",
        "if not (np.abs(numbers) < 1e30).all():",
        "if False:",
        "data/test_glove.py::test_damage_is_refused",
    ),
    (
        "data/download.py",
        "_check_archive(source, archive, largest)",
        "pass",
        "data/test_download_archives.py::test_hostile_archives",
    ),
    (
        "data/download.py",
        "if found != expected else",
        "if False else",
        "data/test_download.py::test_wrong_hash_is_deleted",
    ),
    (
        "data/download.py",
        "_kept(part)[1:] != (int(",
        "() == (int(",
        "data/test_download.py::test_a_changed_file_whose_server",
    ),
    (
        "inference/captioner.py",
        "if not (np.isfinite(found",
        "if False and not (np.isfinite(found",
        "inference/test_captioner.py::test_numbers_that_are_none",
    ),
    (
        "app/guard.py",
        "if not (is_own or _is_offered(path, method)) or (",
        "if (",
        "app/test_guard.py::test_only_the_routes",
    ),
    ("app/guard.py", "> QUESTION:", "< 0:", "app/test_guard.py::test_long_and_broken"),
    (
        "app/guard.py",
        "not self._is_kept(path.removeprefix(FILE))",
        "False",
        "app/test_guard.py::test_names_that_no_kept",
    ),
    (
        "app/guard.py",
        "            return STRANGER",
        "            return None",
        "app/test_guard.py::test_nothing_answers",
    ),
    ("app/guard.py", "            return FOREIGN", "            return None", "app/test_guard.py::test_other_pages"),
    (
        "app/guard.py",
        "            return ELSEWHERE",
        "            return None",
        "app/test_guard.py::test_without_a_password",
    ),
    (
        "app/guard.py",
        "            return UNREADABLE\n",
        "            return None\n",
        "app/test_guard.py::test_without_a_password",
    ),
    ("app/guard.py", 'b"origin", ', "", "app/test_guard.py::test_other_pages"),
    ("app/guard.py", "self.page.auth is not None and HOST", "HOST", "app/test_guard.py::test_only_a_proxy"),
    (
        "app/guard.py",
        "                return NOT_SENT, receive",
        "                pass",
        "app/test_guard.py::test_nothing_is_fetched",
    ),
    ("app/guard.py", "if left < 0 or message", "if message", "app/test_guard.py::test_uploads_stop"),
    (
        "app/guard.py",
        ' or message["type"] == "http.disconnect"',
        "",
        "app/test_guard.py::test_of_an_upload_that_breaks_off",
    ),
    ("serving/origin.py", '"x-content-type-options": "nosniff",', "", "app/test_guard.py::test_uploads_come_back"),
    ("serving/origin.py", "default-src 'self'", "default-src *", "app/test_guard.py::test_a_browser_is_told"),
    ("app/scratch.py", "os.remove(path)", "pass", "app/test_scratch.py::test_old_files"),
    ("app/server.py", "len(password) < LEAST", "not password", "app/test_server.py::test_a_password_that_is_chosen"),
    ("app/server.py", "proxy_headers=False", "proxy_headers=True", "app/test_guard.py::test_who_asks"),
    ("app/console.py", '.encode("unicode_escape").decode()', "", "app/test_console.py::test_a_message_is_one_line"),
    ("app/console.py", "if failure is not None:", "if False:", "app/test_console.py::test_bad_requests"),
    ("app/console.py", "if not is_full:", "if True:", "app/test_console.py::test_a_flood"),
    ("app/bundle_report.py", 'text.replace("![", "[")', "text", "app/test_bundle_report.py::test_a_model_card_makes"),
    (
        "app/bundle_report.py",
        "    except DAMAGE:",
        "    except ZeroDivisionError:",
        "app/test_bundle_report.py::damaged",
    ),
    (
        "app/bundle_report.py",
        "data = read_listed(folder, name)\n    if",
        "data = (folder / name).read_bytes() if (folder / name).exists() else b''\n    if",
        "app/test_bundle_report.py::not_listed",
    ),
    ("serving/pool.py", "answer.result(seconds)", "answer.result()", "serving/test_pool.py::test_one_that_hangs"),
    ("serving/pool.py", "        with self._lock:", "        if True:", "app/test_app.py::loaded_once"),
    ("app/page.py", "max_size=WAITING", "max_size=None", "app/test_api.py::test_everybody_is_answered"),
    ("data/feedback.py", ">= MAX_ENTRIES:", "< 0:", "data/test_feedback.py::test_a_store_takes_only_so_much"),
    (
        "data/database.py",
        "elif mark != layout.mark:",
        "elif False:",
        "data/test_feedback_disk.py::test_a_database_of_another_kind",
    ),
    ("data/database.py", 'database.execute("COMMIT")', "pass", "data/test_feedback.py::test_what_is_added"),
    ("data/feedback.py", "CONTROL_CHARACTER.search(text)", "False", "data/test_feedback.py::test_what_cannot_be_kept"),
    (
        "runtime/safe_csv.py",
        "isinstance(cell, str) and FORMULA",
        "False and FORMULA",
        "data/test_feedback.py::test_no_cell_is_a_formula",
    ),
    ("serving/gate.py", "raise Problem(*ELSEWHERE)", "pass", "serving/test_access.py::test_without_keys_only"),
    ("serving/gate.py", "raise Problem(*FOREIGN)", "pass", "serving/test_access.py::test_without_keys_only"),
    ("serving/gate.py", 'caller.role != "admin"', "False", "serving/test_access.py::test_figures_are_for_admins"),
    ("serving/gate.py", "self._check(int(length))", "pass", "serving/test_gate.py::test_a_body_that_says"),
    ("serving/gate.py", "self._check(self._taken + size)", "pass", "serving/test_gate.py::test_a_body_that_does_not"),
    ("serving/keys.py", "and is_right else None", "else None", "serving/test_keys.py::test_forged_keys"),
    ("serving/keys.py", "id = ? AND revoked IS NULL", "id = ?", "serving/test_keys.py::test_a_key_is_found"),
    ("serving/keys.py", "+ pictures > limit", "> limit + 99", "serving/test_keys.py::test_exactly_so_many"),
    (
        "serving/access.py",
        "algorithms=[self.algorithm]",
        'algorithms=["HS256"]',
        "serving/test_access.py::test_a_public_key",
    ),
    ("serving/access.py", '"require": list(NEEDED)', '"require": []', "serving/test_access.py::test_tokens_are_taken"),
    ("serving/jobs.py", 'owner not in (None, row["owner"])', "False", "serving/test_jobs.py::test_a_key_sees_its_own"),
    ("serving/jobs.py", "number = ? AND result IS NULL", "number = ?", "serving/test_jobs.py::test_what_was_begun"),
    (
        "serving/telemetry.py",
        '"value": ""',
        '"value": each.get("value")',
        "serving/test_telemetry.py::test_an_event_keeps",
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "project"
    left_out = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "node_modules", "dist")
    shutil.copytree(ROOT, folder, ignore=left_out, symlinks=True)
    return folder


def run(copy: Path, test: str) -> tuple[int, str]:
    """Pytest's exit status, and the last it said; a test that hangs has noticed."""
    file, _, name = test.partition("::")
    command = [sys.executable, "-m", "pytest", "-x", "-q", f"tests/{file}", "-k", name or "test", "-o", "addopts="]
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
