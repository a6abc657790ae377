"""What hostile pictures cost: a million-fold damage raises one kind of error, and no bomb takes memory or time."""

import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from captioning.data import images
from captioning.data.images import read_image
from captioning.errors import ImageError
from tests.data.test_images import ANIMATION, chunk, encoded, photo, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak of memory there"),
]

ROOT = Path(images.__file__).parents[2]
MUTATIONS = 200_000
AT_ONCE = 4  # more than the app and the REST service together read at the same time
CHILD = """
import io, random, re, resource, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from captioning.errors import ImageError
from captioning.data.images import read_image
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
MUTATE = f"""{CHILD}
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
from tests.data.test_images import mutated, originals
dice, accepted, refused, sources = random.Random(int(sys.argv[1])), 0, 0, originals()
for number in range(int(sys.argv[2])):
    data = mutated(dice.choice(sources), dice)
    try:
        read_image(io.BytesIO(data), size=16)
        accepted += 1
    except ImageError:
        refused += 1
    except BaseException:
        Path(sys.argv[3]).write_bytes(data)
        raise
print(accepted, refused, peak())
"""
BOMBS = f"""{CHILD}
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30,) * 2)
from concurrent.futures import ThreadPoolExecutor
files = sorted(Path(sys.argv[1]).iterdir())
def refuse(file):
    start = time.perf_counter()
    try:
        return file.name, "accepted", read_image(file, size=224).nbytes
    except ImageError as error:
        return file.name, error.reason, time.perf_counter() - start
read_image(io.BytesIO(Path(sys.argv[2]).read_bytes()), size=224)
before = peak()
for name, reason, seconds in map(refuse, files):
    print(name, reason, seconds, sep="\\t")
with ThreadPoolExecutor({AT_ONCE}) as pool:
    list(pool.map(refuse, 50 * files))
print("grown", before, peak() - before, sep="\\t")
"""


def python(script: str, *arguments: object, before: tuple[str, ...] = ()) -> str:
    command = [*before, sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


def test_damage_raises_one_kind_of_error_and_takes_no_memory(tmp_path, record_property):
    accepted, refused, peak = map(int, python(MUTATE, 1, MUTATIONS, tmp_path / "culprit").split())
    record_property("pictures with altered bytes", accepted + refused)
    record_property("refused", refused)
    record_property("other errors", 0)
    record_property("peak MB", peak // 1024)
    assert accepted > MUTATIONS / 100
    assert refused > MUTATIONS / 100
    assert peak < 400 * 1024


def bmp(width: int, height: int) -> bytes:
    data = encoded(photo(), "BMP").getbuffer()
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    data = bytearray(encoded(photo().convert("P"), "GIF").getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    start = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    data[start + 5 : start + 9] = struct.pack("<HH", *(frame or (width, height)))
    return bytes(data)


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(), "JPEG").getvalue())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def real_png(side: int, depth: int, kind: int) -> bytes:
    """A picture that really has so many pixels, all black."""
    packer, row = zlib.compressobj(9), bytes(1 + side * depth // 8)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth if kind == 0 else 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8), 9))
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**8), 9))
    webp = bytearray(encoded(photo(), "WEBP", lossless=True).getvalue())
    webp[21:25] = struct.pack("<I", (16383) | (16383 << 14))
    icon = io.BytesIO()
    photo().resize((32, 32)).save(icon, "ICO")
    return {
        "one bit": real_png(20_000, 1, 0),
        "grey": real_png(13_000, 8, 0),
        "lying": png(60_000, 60_000),
        "lying to Pillow": png(2**31 - 1, 2**31 - 1),
        "animated": png(30_000, 30_000, ANIMATION),
        "second header": png(64, 64, ANIMATION, chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))),
        "long text": png(WIDE, WIDE, text),
        "long profile": png(WIDE, WIDE, profile),
        "gif": gif(60_000, 60_000),
        "gif frame": gif(40, 30, (60_000, 60_000)),
        "jpeg": jpeg(65_000, 65_000),
        "bmp": bmp(60_000, 60_000),
        "bmp upside down": bmp(60_000, -60_000),
        "webp": bytes(webp),
        "icon": icon.getvalue(),
    }


WIDE = 7_000  # just within what is allowed, and without its pixels


def test_all_bombs_together_take_neither_memory_nor_time(tmp_path, record_property):
    folder, harmless = tmp_path / "bombs", tmp_path / "harmless.png"
    folder.mkdir()
    photo().save(harmless)
    for name, data in bombs().items():
        (folder / name).write_bytes(data)
    *told, (_, _, grown) = (line.split("\t") for line in python(BOMBS, folder, harmless).splitlines())
    reasons = {name: reason for name, reason, _ in told}
    assert "accepted" not in reasons.values(), reasons
    record_property("bombs", len(told))
    record_property("longest refusal ms", round(1000 * max(float(seconds) for *_, seconds in told)))
    record_property(f"MB grown, {AT_ONCE} at once", int(grown) // 1024)
    assert int(grown) < AT_ONCE * 200 * 1024  # what pictures of 49 megapixels take in Pillow, which are allowed


FOREIGN = {
    "a.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
    "b.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "c.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "d.png": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><svg>&e;</svg>",
    "e.pdf": b"%PDF-1.4\n",
    "f.tif": b"II*\0" + bytes(99),
    "g.heic": b"\0\0\0\x18ftypheic" + bytes(99),
    "h.wmf": b"\xd7\xcd\xc6\x9a" + bytes(99),
    "i.fli": b"\x0c\0\0\0\x11\xaf" + bytes(200),
    "j.mpeg": b"\0\0\1\xb3" + bytes(99),
}


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_foreign_formats_start_no_other_program(tmp_path, record_property):
    folder, log = tmp_path / "foreign", tmp_path / "log"
    folder.mkdir()
    photo().save(tmp_path / "harmless.png")
    for name, data in FOREIGN.items():
        (folder / name).write_bytes(data)
    if subprocess.run(["strace", "-qq", "-o", log, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to trace")
    traced = ("strace", "-f", "-qq", "-e", "trace=execve,connect,openat", "-o", str(log))
    told = python(BOMBS, folder, tmp_path / "harmless.png", before=traced)
    assert "accepted" not in told
    calls = log.read_text(errors="replace")
    assert len(re.findall(r"\bexecve\(", calls)) == 1, "Python itself"
    assert "connect(" not in calls
    assert "/etc/passwd" not in calls
    record_property("files", len(FOREIGN))
    record_property("programs started", 0)


CANARY = "canary-7741"


def marked() -> dict[str, bytes]:
    """Pictures that say where they were taken, in every way they can."""
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x8298] = CANARY  # description, artist, copyright
    exif.get_ifd(0x8825)[0x001D] = CANARY  # the date of the GPS
    exif.get_ifd(0x8825)[0x001B] = CANARY.encode()
    text = chunk(b"tEXt", b"Comment\0" + CANARY.encode()) + chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + CANARY.encode()
    )
    whole = encoded(photo(), "PNG", exif=exif).getvalue()
    return {
        "a.jpg": encoded(photo(), "JPEG", exif=exif, comment=CANARY, icc_profile=CANARY.encode()).getvalue(),
        "b.png": whole[:33] + text + whole[33:],
        "c.webp": encoded(photo(), "WEBP", exif=exif, xmp=CANARY.encode()).getvalue(),
        "d.gif": encoded(photo().convert("P"), "GIF", comment=CANARY).getvalue(),
    }


def test_where_a_picture_was_taken_is_not_kept(tmp_path, record_property):
    from captioning.data.feedback import FeedbackStore
    from captioning.data.image_index import index_images

    folder, kept = tmp_path / "pictures", tmp_path / "kept"
    folder.mkdir()
    for name, data in marked().items():
        assert CANARY.encode() in data, name
        (folder / name).write_bytes(data)
    store = FeedbackStore(kept / "feedback.db")
    for path in folder.iterdir():
        store.add(read_image(path), bundle="b", caption="c", options={}, rating=1)
    index_images(sorted(folder.iterdir()), kept, progress=False)
    written = [path.read_bytes() for path in kept.rglob("*") if path.is_file()]
    assert len(written) >= len(marked()) + 2  # copies, the database, the catalogue
    assert not any(CANARY.encode() in data for data in written)
    record_property("files written", len(written))
    record_property("that say where", 0)
    with pytest.raises(ImageError) as refused:
        read_image(io.BytesIO(marked()["a.jpg"][:900]))
    assert CANARY not in str(refused.value)
