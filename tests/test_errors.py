"""Whatever an error quotes, its message is one line of printable characters and of bounded length."""

import pickle

import pytest

from captioning.errors import LONGEST, BundleError, CaptioningError, ImageError


@pytest.mark.parametrize("quoted", ["two\nlines", "\x1b[31mred", "\u202edlrow", "\ud800", "\udcff.jpg", "\0"])
def test_what_a_message_quotes_cannot_write_into_the_terminal(quoted):
    for error in (BundleError(f"the name {quoted} is odd."), ImageError("missing", f"the name {quoted} is odd.")):
        assert str(error).isprintable()
        assert str(error).startswith("the name ")
        str(error).encode()


@pytest.mark.parametrize("message", ["Größe 3, “a dog”; 95 %.", "C:\\pictures\\a.png is missing."])
def test_a_usual_message_stays_as_it_is(message):
    assert str(CaptioningError(message)) == message


def test_a_long_message_keeps_its_ends():
    message = str(CaptioningError("a" + "x" * 10**6 + "z"))
    assert len(message) < LONGEST + 10
    assert (message[0], message[-1]) == ("a", "z")


def test_an_error_comes_back_from_another_process():
    error = pickle.loads(pickle.dumps(ImageError("missing", "a\nb")))
    assert (type(error), error.reason, str(error)) == (ImageError, "missing", "a\\nb")
