"""GloVe files read or refused by line; vectors fitted on captions put like words together."""

import zipfile

import numpy as np
import pytest

from captioning.data import glove
from captioning.errors import DataError

SPECIAL = ["<pad>", "<start>", "<end>", "<unk>"]
WORDS = [*SPECIAL, "dog", "cat", "zebra"]


@pytest.fixture
def text():
    """Five words of 50 numbers each, as GloVe writes them."""
    rng = np.random.default_rng(0)
    names = ["the", "dog", ",", "cat", "naïve"]
    return "".join(f"{name} {' '.join(f'{number:.5f}' for number in rng.normal(0, 0.4, 50))}\n" for name in names)


@pytest.fixture
def path(tmp_path, text):
    path = tmp_path / "glove.6B.50d.txt"
    path.write_text(text, encoding="utf-8")
    return path


def read(path, words=WORDS, dimension=50):
    return glove.read_glove(path, words, dimension=dimension)


def test_words_get_their_numbers(path, text):
    vectors = read(path)
    expected = [float(number) for number in text.splitlines()[1].split()[1:]]
    assert vectors.matrix.shape == (7, 50)
    assert vectors.matrix.dtype == np.float32
    assert vectors.matrix[4] == pytest.approx(expected)
    assert vectors.covered.tolist() == [False] * 4 + [True, True, False]
    assert vectors.coverage == pytest.approx(2 / 3)


def test_what_each_choice_gives(path, tmp_path):
    def chosen(choice, folder):
        return glove.word_vectors(choice, WORDS, [[4, 5], [4, 6]], dimension=50, folder=folder)

    for choice in (str(path), "auto"):
        matrix, coverage, told = chosen(choice, path.parent)
        np.testing.assert_array_equal(matrix, read(path).matrix)
        assert coverage == pytest.approx(2 / 3)
        assert "holds 67%" in told
    assert chosen("fit", path.parent)[1:] == chosen("auto", tmp_path / "empty")[1:] == (1.0, chosen("fit", tmp_path)[2])
    assert chosen("none", path.parent)[:2] == (None, None)


def test_rows_without_vector(path):
    many = [*WORDS, *(f"word{number}" for number in range(200))]
    vectors = read(path, many)
    assert not vectors.matrix[0].any()
    assert all(vectors.matrix[row].any() for row in range(1, len(many)))
    assert vectors.matrix[7:].std() == pytest.approx(vectors.matrix[vectors.covered].std(), rel=0.05)
    assert np.array_equal(read(path, many).matrix, vectors.matrix)


def test_special_tokens_are_never_looked_up(path, text):
    path.write_text(text.replace("the ", "<unk> ", 1))
    assert not read(path).covered[:4].any()


@pytest.mark.parametrize(
    ("name", "members"),
    [("glove.6B.zip", ["glove.6B.100d.txt", "glove.6B.50d.txt"]), ("own.zip", ["readme.md", "vectors.txt"])],
)
def test_zip(tmp_path, path, text, name, members):
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in members:
            archive.writestr(member, "not this one" if "100d" in member or "readme" in member else text)
    assert np.array_equal(read(tmp_path / name).matrix, read(path).matrix)


@pytest.mark.parametrize("line", ["400000 50\n", "dog cat " + "0.5 " * 49 + "0.5\n", "cat " + "0.5 " * 50 + "\n"])
def test_harmless_oddities(path, text, line):
    """A word2vec header, a word with spaces, a space at the end of the line."""
    expected = read(path)
    at = 0 if "400000" in line else len(text)
    path.write_text(text[:at] + line.replace("cat 0", "bird 0") + text[at:])
    assert np.array_equal(read(path).matrix, expected.matrix)


def test_windows_line_ends(path, text):
    expected = read(path)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert np.array_equal(read(path).matrix, expected.matrix)


DAMAGE = {
    "empty": (lambda text: "", "empty"),
    "another dimension": (lambda text: text.replace(" 0.", " 0.1 0.", 1), "line 1, holds 51 numbers where 50"),
    "inconsistent dimension": (lambda text: text + "bird" + " 0.5" * 60 + "\n", "line 6, holds 60 numbers where 50"),
    "cut in its last line": (lambda text: text[:-100], "line 5, holds .* cut or damaged"),
    "cut after its last word": (lambda text: text + "bird", "line 6, holds 0 numbers"),
    "NaN": (lambda text: text + "zebra nan" + " 0.5" * 49 + "\n", "line 6, holds NaN or infinity"),
    "infinity": (lambda text: text + "zebra 1e99" + " 0.5" * 49 + "\n", "line 6, holds NaN or infinity"),
    "no numbers": (lambda text: text + "zebra" + " stripes" * 50 + "\n", "line 6, holds a field that is not a number"),
    "blank line": (lambda text: "\n" + text, "line 1"),
    "a web page": (lambda text: "<!DOCTYPE html>\n<title>404</title>\n", "line 1"),
    "late header": (lambda text: text + "400000 50\n", "line 6"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused(path, text, kind):
    damage, message = DAMAGE[kind]
    path.write_text(damage(text))
    with pytest.raises(DataError, match=message):
        read(path)


def test_wrong_dimension_is_refused(path):
    with pytest.raises(DataError, match="line 1, holds 50 numbers where 200 were expected: choose the file"):
        read(path, dimension=200)


def test_foreign_words_are_refused(path):
    with pytest.raises(DataError, match="none of the vocabulary's 2 words"):
        read(path, [*SPECIAL, "hund", "katze"])


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "glove.txt")


def test_zip_without_the_dimension(tmp_path):
    with zipfile.ZipFile(tmp_path / "glove.zip", "w") as archive:
        archive.writestr("glove.6B.100d.txt", "")
        archive.writestr("glove.6B.200d.txt", "")
    with pytest.raises(DataError, match=r"no vectors of 50 numbers, only: glove\.6B\.100d\.txt"):
        read(tmp_path / "glove.zip")


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.99])
def test_cut_zip(tmp_path, text, cut):
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.6B.50d.txt", text)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    with pytest.raises(DataError, match="damaged zip"):
        read(path)


def test_zip_with_a_flipped_byte(tmp_path, text):
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.6B.50d.txt", text)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError):
        read(path)


def test_find_glove(tmp_path, path):
    assert glove.find_glove(tmp_path, 50) == path
    assert glove.find_glove(tmp_path, 100) is None
    (tmp_path / "broken.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "glove.6B.zip", "w") as archive:
        archive.writestr("glove.6B.100d.txt", "")
    assert glove.find_glove(tmp_path, 100) == tmp_path / "glove.6B.zip"
    assert glove.find_glove(tmp_path / "absent", 100) is None


SUBJECTS = np.arange(4, 24).reshape(4, 5)  # ids of the words of four subjects: beach, kitchen, ...
LITTLE = [24, 25, 26]  # ids of words like "the", said of any subject
UNHEARD = 27


@pytest.fixture(scope="module")
def captions():
    """Each speaks of one subject, a little word between its words."""
    rng = np.random.default_rng(0)

    def caption(subject):
        pairs = zip(rng.choice(LITTLE, size=4), rng.choice(subject, size=4), strict=True)
        return [1, *(int(word) for pair in pairs for word in pair), 2]

    return [caption(subject) for subject in SUBJECTS for _ in range(500)]


@pytest.fixture(scope="module")
def fitted(captions):
    return glove.fit_glove(captions, 28, dimension=50)


def test_like_words_come_together(fitted):
    words = fitted[4:24] - fitted[4:24].mean(axis=0)
    words /= np.linalg.norm(words, axis=1, keepdims=True)
    likeness = words @ words.T
    same = np.kron(np.eye(4), np.ones((5, 5))).astype(bool)
    assert likeness[same].min() > likeness[~same].max()


def test_fitted_rows(fitted, captions):
    assert fitted.shape == (28, 50)
    assert fitted.dtype == np.float32
    assert np.isfinite(fitted).all()
    assert not fitted[0].any()
    assert fitted[UNHEARD].any()
    assert np.array_equal(glove.fit_glove(captions, 28, dimension=50), fitted)


def test_co_occurrences_by_hand():
    table = glove._co_occurrences(np.array([[0, 1, 2, -1], [0, -1, 0, -1]]), 3, window=2)
    assert table.tolist() == [[1, 1, 0.5], [1, 0, 1], [0.5, 1, 0]]


def test_the_loss_falls(captions):
    table = glove._co_occurrences(np.array(captions) - 4, 24, window=8)
    vectors = [glove._factorised(table, 8, steps, np.random.default_rng(0)) for steps in (1, 100)]

    def loss(matrix):
        """Of predicting log counts from w + w~ alone, up to a line: what the fit should have made possible."""
        met = table > 0
        return 1 - np.corrcoef((matrix @ matrix.T)[met], np.log(table[met]))[0, 1] ** 2

    assert loss(vectors[1]) < loss(vectors[0])


def test_gradients_are_those_of_the_loss():
    rng = np.random.default_rng(0)
    shapes = [(5, 3), (5, 3), (5, 1), (5, 1)]
    parameters = [rng.normal(size=shape) for shape in shapes]
    weight, target = rng.uniform(size=(5, 5)), rng.normal(size=(5, 5))

    def half_loss(left, right, left_bias, right_bias):
        return (weight * (left @ right.T + left_bias + right_bias.T - target) ** 2).sum() / 2

    for place, gradient in enumerate(glove._gradients(parameters, weight, target)):
        bumped = [parameter.copy() for parameter in parameters]
        bumped[place][2, 0] += 1e-6
        assert (half_loss(*bumped) - half_loss(*parameters)) / 1e-6 == pytest.approx(gradient[2, 0], abs=1e-4)


def test_large_vocabularies_fit_the_frequent_words(monkeypatch, captions):
    monkeypatch.setattr(glove, "LARGEST_FIT", 8)
    frequent = glove.fit_glove([*captions[:500], [9, 10, 11]], 28, dimension=50)
    assert np.array_equal(frequent[LITTLE], glove.fit_glove(captions[:500], 28, dimension=50)[LITTLE])
    assert np.isfinite(frequent).all()
    assert frequent[9].any()
