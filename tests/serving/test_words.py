"""Translations and answers in the app and over REST, with stand-ins for the models."""

import asyncio
import dataclasses

import pytest

from captioning.app import rendering
from captioning.app.tabs.questions import answer_html
from captioning.data.feedback import FeedbackStore
from captioning.errors import CaptioningError
from captioning.inference.captioner import ENDING
from captioning.options import DecodeOptions
from captioning.serving import answers
from captioning.serving.pool import CaptionerPool
from captioning.serving.session import describe, reworded
from tests.extras.stand_ins import Yes, stand_in_marian
from tests.serving.service import asked, jpeg, sent

VI = DecodeOptions(language="vi", max_length=5)


@pytest.fixture
def words(exported, tmp_path, monkeypatch):
    """A pool whose captions are translated and that answers questions."""
    stand_in_marian(tmp_path / "marian", monkeypatch)
    monkeypatch.setattr("captioning.serving.pool.make_answers_ready", lambda name, **_: None)
    monkeypatch.setattr("captioning.serving.pool.load_answerer", lambda name, **_: Yes())
    (tmp_path / "photo.jpg").write_bytes(jpeg(1))
    return CaptionerPool([exported], translate=[f"vi={tmp_path / 'marian'}"], questions="blip-vqa", offline=True)


@pytest.fixture
def photo(words, tmp_path):
    return str(tmp_path / "photo.jpg")


def test_a_translation_stands_above_the_words_it_is_of(words, photo):
    [name] = words.names
    assert words.languages == ["vi"]
    seen = describe(words, name, photo, VI)
    shown = rendering.reader(seen, 0)
    assert f'lang="vi">{seen.caption.text.upper()}<' in shown
    assert 'data-lang="vi"' in shown
    assert "Translated from English by</span> marian" in shown
    assert f'data-copy="{seen.caption.text.upper()}"' in shown
    assert seen.caption.words[0].text in shown
    assert seen.caption.text.upper() in rendering.others(seen)
    plain = describe(words, name, photo, dataclasses.replace(VI, language=""))
    assert "Translated" not in rendering.reader(plain, 0)


def test_a_caption_with_another_word_is_translated_again(words, photo):
    seen = describe(words, words.names[0], photo, VI)
    word = next(word for word, _ in seen.choices[0] if word != ENDING)
    other = reworded(words, seen, 0, word)
    assert str(other.caption) == other.caption.text.upper() != str(seen.caption)
    ending = [[(ENDING, 0.5)] for _ in seen.choices]
    ended = reworded(words, dataclasses.replace(seen, choices=ending), 2, ENDING)
    assert len(ended.caption.words) == 2
    assert str(ended.caption) == ended.caption.text.upper()


def test_programs_are_answered_with_what_was_translated(words, photo):
    name = words.names[0]
    found = answers.answer(describe(words, name, photo, answers.search_options(words, name, {"language": "vi"})))
    assert found["caption"] == found["original"].upper()
    assert (found["language"], found["translated_by"]) == ("vi", "marian")
    [row] = answers.caption_each(words, name, [photo], VI)
    assert row["caption"].isupper()


def test_rest_says_that_a_caption_is_translated(words, tmp_path):
    with asked(words, tmp_path / "service") as client:
        [offer] = client.get("/v1/captioners").json()["captioners"]
        assert (offer["languages"], offer["translations"]) == ([], ["vi"])
        [found] = client.post("/v1/captions", files=sent(1), data={"language": "vi"}).json()["captions"]
        assert found["caption"] == found["original"].upper()
        assert (found["language"], found["translated_by"]) == ("vi", "marian")
        [plain] = client.post("/v1/captions", files=sent(1)).json()["captions"]
        assert (plain["original"], plain["translated_by"]) == (None, None)
        refused = client.post("/v1/captions", files=sent(1), data={"language": "fr"})
        assert refused.status_code == 422
        assert "translations into vi; language fr cannot be used" in refused.json()["detail"]


def test_a_folder_on_the_page_is_captioned_in_the_language(words, tmp_path):
    from captioning.serving.folder_session import FolderSession
    from captioning.serving.library import Library, View

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(jpeg(1))
    session = FolderSession(Library(tmp_path / "library.db"), words, FeedbackStore(tmp_path / "said.db"), folder)
    session.caption(words.names[0], "vi")
    session.wait(60)
    [row] = session.library.rows(session.number, View(), count=None)[1]
    assert (row["language"], row["text"].isupper()) == ("vi", True)


def test_a_question_is_answered_on_the_page(words, photo):
    from captioning.app.page import build_page

    found = words.answer(photo, " is it\nred? ")
    assert (found.question, found.text) == ("is it red?", "=yes")
    shown = answer_html(found)
    assert "=yes</b>" in shown
    assert "75%, not calibrated" in shown
    assert "&lt;no&gt; 20%" in shown
    with pytest.raises(CaptioningError, match="The question is empty"):
        words.answer(photo, " ")

    async def build(pool):
        return build_page(pool, FeedbackStore(f"{photo}.db"), is_public=False)

    def boxes(pool):
        names = [block.elem_id for block in asyncio.run(build(pool)).blocks.values()]
        assert "segmented" not in names  # no segmenter was named
        return [name for name in names if name == "questions"]

    assert len(boxes(words)) == 1
    words.questions = ""
    assert boxes(words) == []


def test_a_language_or_a_model_that_cannot_be_had_stops_the_start(exported, tmp_path, monkeypatch):
    stand_in_marian(tmp_path / "marian", monkeypatch)
    with pytest.raises(CaptioningError, match="Klingon is no language"):
        CaptionerPool([exported], translate=["Klingon"], offline=True)
    with pytest.raises(CaptioningError, match="No model here is called nothing"):
        CaptionerPool([exported], questions="nothing", offline=True)
