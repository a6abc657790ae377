"""The documents stay readable, functions short and types real."""

from tests.prose import figures, sentences, words


def test_documents_functions_and_types_keep_their_limits():
    found = figures()
    assert found["semicolons per 100 sentences"] <= 8
    assert found["median words of a sentence"] <= 14
    assert found["most words of a sentence"] <= 45
    assert found["90th percentile of a function's lines"] <= 16
    assert found["most lines of a function"] <= 60
    assert found["bare Any, % of annotations"] <= 2
    assert found["lines of README.md"] <= 130


def test_sentences_are_found_without_code_and_tables():
    page = (
        "# Title\n\nOne fact; another. Two `x.y; z`\nlines here.\n\n| a | b; c |\n\n- An item\n\n```sh\nls; ls\n```\n"
    )
    assert sentences(page) == ["One fact; another.", "Two code lines here.", "An item"]
    assert [words(one) for one in sentences(page)] == [3, 4, 2]
