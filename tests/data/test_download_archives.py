"""Archives are unpacked whole or not at all, and stay in their folder."""

import errno
import os
import shutil
import stat
import zipfile

import pytest

from captioning.data import download
from captioning.errors import CaptioningError, DownloadError, StorageError


def special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.fixture
def pack(tmp_path):
    """Writes archive.zip with these members."""

    def write(members, compression=zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "archive.zip", "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return tmp_path / "archive.zip"

    return write


@pytest.fixture
def archive(pack):
    return pack({"a.txt": "one", "deep/b.txt": "two", "empty/": ""})


def assert_refused(archive, message, error: type[CaptioningError] = DownloadError):
    with pytest.raises(error, match=message):
        download.unpack(archive, archive.parent / "folder")
    assert [path.name for path in archive.parent.iterdir()] == ["archive.zip"]


def test_unpack(archive, tmp_path):
    folder = download.unpack(archive, tmp_path / "new" / "folder")
    assert (folder / "a.txt").read_text() == "one"
    assert (folder / "deep" / "b.txt").read_text() == "two"


def test_unpack_chooses_and_places(archive, tmp_path):
    folder = download.unpack(archive, tmp_path / "f", members=lambda name: "c.txt" if "b" in name else None)
    assert [path.name for path in folder.iterdir()] == ["c.txt"]


def test_an_unpacked_folder_is_left_alone(archive, tmp_path):
    (tmp_path / "folder").mkdir()
    assert download.unpack(archive, tmp_path / "folder") == tmp_path / "folder"
    assert list((tmp_path / "folder").iterdir()) == []


def test_full_disk_while_unpacking(archive, monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert_refused(archive, "No space left", StorageError)


HOSTILE = {
    "../out.txt": "leads out",
    "a/../../out.txt": "leads out",
    "/tmp/out.txt": "leads out",
    "..\\out.txt": "leads out",
    "C:/out.txt": "leads out",
    "..": "leads out",
    "n" * 300: "too long",
    "deep/" * 400 + "x": "too long",
    special("link", stat.S_IFLNK | 0o777): "neither file nor folder",
    special("device", stat.S_IFBLK): "neither file nor folder",
    special("pipe", stat.S_IFIFO): "neither file nor folder",
    "good.txt/inside": "file and folder at once",
    "bomb": "would become",
}


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: str(getattr(name, "filename", name))[:20])
def test_hostile_archives_are_refused_whole(pack, name):
    content = b"0" * 10_000_000 if name == "bomb" else "/etc/passwd"
    assert_refused(pack({"good.txt": "good", name: content}), f"not safe to unpack.*{HOSTILE[name]}")


@pytest.mark.parametrize(("field", "value", "fault"), [(8, 1, "is encrypted"), (10, 99, "is damaged")])
def test_unreadable_members(archive, field, value, fault):
    """Flags and compression method as the archive's directory gives them."""
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + field] = value
    archive.write_bytes(content)
    assert_refused(archive, fault)


def test_the_total_is_capped(archive, monkeypatch):
    monkeypatch.setattr(download, "LARGEST_UNPACKED", 5)
    assert_refused(archive, "would become")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_cut_archives(archive, share):
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    assert_refused(archive, "is damaged")


def test_a_flipped_byte_fails_its_crc(pack):
    archive = pack({"a": "first", "b": "second"}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"second", b"sacond"))
    assert_refused(archive, r"is damaged.*CRC")


def test_leftovers_of_a_killed_unpacking_do_not_count(archive, tmp_path):
    leftover = tmp_path / "folder.unpacking"
    leftover.mkdir()
    (leftover / "half.txt").write_text("ha")
    folder = download.unpack(archive, tmp_path / "folder")
    assert not (folder / "half.txt").exists()
    assert not leftover.exists()
