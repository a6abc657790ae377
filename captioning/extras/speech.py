"""Text as speech, by eSpeak NG: its library, which the extra speech brings, or the program espeak-ng.

Nothing leaves the computer. The library computes in this process, one text at a time.
"""

import ctypes
import functools
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captioning.errors import CaptioningError
from captioning.options import is_language
from captioning.runtime.environment import explain_missing_packages

SLOWEST, FASTEST = 80, 450  # words a minute
PROGRAMS = ("espeak-ng", "espeak")
VOICES = {"zh": "cmn", "zh-hk": "yue", "no": "nb", "fil": "tl"}  # languages whose voice is called otherwise
PLAYERS = (  # programs that play a WAV file
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)
LONGEST_PATH = 200  # bytes that the library has room for
PATIENCE = 30  # seconds beyond the length of a sound
RETRIEVAL, DO_NOT_EXIT, UTF8, RATE, CHARACTERS = 1, 0x8000, 1, 1, 1  # constants of speak_lib.h

_lock = threading.Lock()


@dataclass(frozen=True)
class Sound:
    """Samples of 16 bits, one channel."""

    samples: bytes
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / 2 / self.rate

    def wav(self) -> bytes:
        """The contents of a WAV file."""
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(self.rate)
            out.writeframes(self.samples)
        return file.getvalue()


def speak(text: str, language: str = "en", *, speed: int = 160) -> Sound:
    """A text, spoken in its language at a speed in words a minute."""
    if not text.strip():
        raise CaptioningError("There are no words to say; choose another picture.")
    valid = text.encode("utf-8", "replace").decode().replace("\0", " ")
    sound = speaker(language, speed)(valid)
    if not any(sound.samples):
        raise CaptioningError(f"eSpeak NG made no sound of this text in {language}; choose another --language.")
    return sound


def speaker(language: str, speed: int = 160) -> Callable[[str], Sound]:
    """The function that speaks a language; refused where there is no voice for it."""
    if not SLOWEST <= speed <= FASTEST:
        raise CaptioningError(
            f"--speed {speed} cannot be used: {SLOWEST} to {FASTEST} words a minute were expected; 160 is usual."
        )
    if not is_language(language):
        raise CaptioningError(f"{language} is no language; a code such as vi or zh-hant, in lower case, was expected.")
    library, program = _library(), next(filter(None, map(shutil.which, PROGRAMS)), None)
    if library:
        has_voice: Callable[[str], bool] = functools.partial(_choose, library[0])
    elif program:
        has_voice = functools.partial(_program_has_voice, program)
    elif importlib.util.find_spec("espeakng_loader"):
        raise CaptioningError(
            "The library of eSpeak NG could not be begun here; install the program espeak-ng, "
            "or use a Python environment whose path is shorter."
        )
    else:
        with explain_missing_packages():
            raise ModuleNotFoundError("no eSpeak NG", name="espeakng_loader")
    with _lock:
        voice = next(filter(has_voice, voices(language)), "")
    if not voice:
        raise CaptioningError(f"eSpeak NG has no voice for {language}; choose another --language.")
    if library:
        return functools.partial(_by_library, *library, voice=voice, speed=speed)
    return functools.partial(_by_program, str(program), voice=voice, speed=speed)


def voices(language: str) -> list[str]:
    """The names that a voice for a language may have, the best first."""
    first = language.partition("-")[0]
    return list(dict.fromkeys(VOICES.get(name, name) for name in (language, first)))


@functools.cache
def _library() -> tuple[ctypes.CDLL, int] | None:
    """The library, begun, and the samples a second that it makes; None where it is not installed or does not begin."""
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = os.fsencode(espeakng_loader.get_data_path())
    except (ModuleNotFoundError, OSError, RuntimeError):
        return None
    if len(data) > LONGEST_PATH:  # else it would read its data at the place where it was built
        return None
    rate = library.espeak_Initialize(RETRIEVAL, 0, data, DO_NOT_EXIT)
    return (library, rate) if rate > 0 else None


def _choose(library: ctypes.CDLL, voice: str) -> bool:
    return library.espeak_SetVoiceByName(voice.encode()) == 0


def _by_library(library: ctypes.CDLL, rate: int, text: str, *, voice: str, speed: int) -> Sound:
    parts: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def take(samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
        if samples and count > 0:
            parts.append(ctypes.string_at(samples, 2 * count))
        return 0

    data = text.encode()
    with _lock:
        library.espeak_SetSynthCallback(take)
        _choose(library, voice)
        library.espeak_SetParameter(RATE, speed, 0)
        size = ctypes.c_size_t(len(data) + 1)
        failed = library.espeak_Synth(data, size, 0, CHARACTERS, 0, UTF8, None, None)
        failed = failed or library.espeak_Synchronize()
    if failed:
        raise CaptioningError(f"eSpeak NG could not speak this text (code {failed}); try again.")
    return Sound(b"".join(parts), rate)


def _program_has_voice(program: str, voice: str) -> bool:
    done = subprocess.run([program, "-q", "-v", voice, "a"], capture_output=True, timeout=PATIENCE)
    return done.returncode == 0


def _by_program(program: str, text: str, *, voice: str, speed: int) -> Sound:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spoken.wav")
        words = Path(folder, "words.txt")
        words.write_text(text, encoding="utf-8")
        command = [program, "-v", voice, "-s", str(speed), "-b", "1", "-w", str(file), "-f", str(words)]
        told = "it gave no file"
        try:
            done = subprocess.run(command, capture_output=True, timeout=300)
            told = done.stderr.decode("utf-8", "replace").strip() or told
            with wave.open(str(file)) as made:
                return Sound(made.readframes(made.getnframes()), made.getframerate())
        except (OSError, EOFError, wave.Error, subprocess.TimeoutExpired):
            raise CaptioningError(f"{program} made no sound ({told}); pip install 'captioning[speech]'.") from None


def play(sound: Sound) -> None:
    """Plays a sound on the loudspeaker; refused where there is none."""
    if sys.platform == "win32":
        import winsound

        winsound.PlaySound(sound.wav(), winsound.SND_MEMORY)
        return
    reason = f"none of {', '.join(name for name, *_ in PLAYERS)} is installed"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "spoken.wav")
        file.write_bytes(sound.wav())
        for name, *options in PLAYERS:
            if shutil.which(name):
                try:
                    command = [name, *options, str(file)]
                    done = subprocess.run(command, capture_output=True, timeout=sound.seconds + PATIENCE)
                except (OSError, subprocess.TimeoutExpired) as error:
                    reason = f"{name}: {type(error).__name__}"
                    continue
                if done.returncode == 0:
                    return
                told = done.stderr.decode("utf-8", "replace").strip().splitlines()
                reason = f"{name}: {told[0] if told else f'exit status {done.returncode}'}"
    raise CaptioningError(f"No loudspeaker could be used ({reason}); write a file with --output spoken.wav.")
