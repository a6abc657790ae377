"""Speech: real WAV files by the library and by the program, where they are installed; voices, players, refusals."""

import array
import io
import shutil
import subprocess
import wave
from types import SimpleNamespace

import pytest

from captioning import cli
from captioning.errors import CaptioningError, MissingExtra
from captioning.extras import speech
from captioning.extras.speech import Sound, play, speak, voices

TEXT = "A red dog runs on the grass."


@pytest.fixture(params=["library", "program"])
def engine(request, monkeypatch):
    """eSpeak NG, as the extra brings it and as a program."""
    if request.param == "library":
        pytest.importorskip("espeakng_loader")
    elif not shutil.which("espeak-ng"):
        pytest.skip("the program espeak-ng is not installed")
    else:
        monkeypatch.setattr(speech, "_library", lambda: None)
    return request.param


@pytest.fixture
def none(monkeypatch):
    """A computer without eSpeak NG and without a program that plays."""
    monkeypatch.setattr(speech, "_library", lambda: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)


def loudest(sound):
    with wave.open(io.BytesIO(sound.wav())) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, sound.rate)
        assert file.getnframes() / sound.rate == pytest.approx(sound.seconds)
        return max(map(abs, array.array("h", file.readframes(file.getnframes()))))


def test_a_sentence_is_spoken_as_a_wav_file(engine):
    sound = speak(TEXT)
    assert 1 < sound.seconds < 6
    assert loudest(sound) > 3000
    assert speak(TEXT, speed=300).seconds < 0.8 * sound.seconds
    assert speak(TEXT + " " + TEXT).seconds > 1.5 * sound.seconds


def test_a_language_has_its_own_voice(engine):
    text = "một con chó đỏ chạy trên cỏ"
    vietnamese, english = speak(text, "vi"), speak(text, "en")
    assert vietnamese.samples != english.samples
    assert loudest(speak("一只红色的狗在草地上跑", "zh")) > 3000
    assert speak(TEXT, "de-xyz").seconds == pytest.approx(speak(TEXT, "de").seconds, rel=0.05)


@pytest.mark.parametrize("language", ["xx", "xx-latn"])
def test_a_language_without_a_voice_is_refused(engine, language):
    with pytest.raises(CaptioningError, match=f"no voice for {language}"):
        speak(TEXT, language)


@pytest.mark.parametrize("language", ["../../en", "-w", "EN", ""])
def test_what_is_no_language_is_refused(language):
    with pytest.raises(CaptioningError, match="is no language"):
        speak(TEXT, language)


@pytest.mark.parametrize("speed", [0, 79, 451])
def test_a_speed_out_of_range_is_refused(speed):
    with pytest.raises(CaptioningError, match="80 to 450 words a minute"):
        speak(TEXT, speed=speed)


def test_nothing_to_say_is_told(engine):
    with pytest.raises(CaptioningError, match="no words to say"):
        speak(" \n")


def test_odd_characters_are_spoken_over(engine):
    assert speak(f"dog\0 \ud800 {TEXT} <speak> 🐕").seconds > 1


def test_voices_are_tried_from_the_exact_one_on():
    assert voices("pt-br") == ["pt-br", "pt"]
    assert voices("zh") == ["cmn"]
    assert voices("zh-hant") == ["zh-hant", "cmn"]
    assert voices("zh-hk") == ["yue", "cmn"]


def test_without_either_the_extra_is_named(none):
    with pytest.raises(MissingExtra, match=r"needs eSpeak NG; .*\[speech\]"):
        speak(TEXT)


def test_a_library_that_does_not_begin_is_told(none, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(CaptioningError, match="could not be begun here; install the program espeak-ng"):
        speak(TEXT)


def test_data_at_too_long_a_path_are_not_handed_to_the_library(monkeypatch):
    loader = pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(loader, "get_data_path", lambda: "/" + "x" * 300)
    assert speech._library.__wrapped__() is None


def test_without_a_player_a_file_is_proposed(none):
    with pytest.raises(CaptioningError, match=r"none of paplay, .* is installed\); write a file with --output"):
        play(Sound(b"\1\0" * 100, 22050))


def test_the_next_player_is_tried_and_the_last_reason_told(monkeypatch):
    ran = []

    def run(command, **_):
        ran.append(command[0])
        with wave.open(command[-1]) as file:
            assert file.getnframes() == 100
        return SimpleNamespace(returncode=int(command[0] != plays), stderr=b"no device\nmore")

    monkeypatch.setattr("shutil.which", lambda name: name if name in ("paplay", "aplay") else None)
    monkeypatch.setattr(subprocess, "run", run)
    plays = "aplay"
    play(Sound(b"\1\0" * 100, 22050))
    assert ran == ["paplay", "aplay"]
    plays = "none"
    with pytest.raises(CaptioningError, match=r"aplay: no device\)"):
        play(Sound(b"\1\0" * 100, 22050))


def test_the_command_writes_what_it_says(engine, loaded, photo, tmp_path, capsys):
    output = tmp_path / "spoken.wav"
    assert cli.main(["say", photo, "--output", str(output)]) == 0
    said = capsys.readouterr()
    assert said.out.split("\t")[0].strip()
    assert "seconds of speech in" in said.err
    with wave.open(str(output)) as file:
        assert file.getnframes() / file.getframerate() > 0.5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--output", "spoken.mp3"], "ends in .wav was expected"),
        (["--speed", "9"], "80 to 450 words a minute"),
        (["--translator", "some/model"], "--translator is for a --language"),
    ],
)
def test_the_command_refuses_in_a_sentence(loaded, photo, capsys, arguments, says):
    pytest.importorskip("espeakng_loader")
    assert cli.main(["say", photo, *arguments]) == 2
    assert says in capsys.readouterr().err


def test_the_command_names_the_extra_before_it_captions(none, photo, capsys, monkeypatch):
    monkeypatch.setattr("captioning.load", lambda *_, **__: pytest.fail("loaded"))
    assert cli.main(["say", photo]) == 2
    said = capsys.readouterr().err
    assert "captioning say needs eSpeak NG" in said
    assert "[speech]" in said
    assert len(said.splitlines()) == 1
