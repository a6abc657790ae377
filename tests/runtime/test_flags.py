"""Every dial is a flag; what is not said on the command line stays as it was."""

import argparse
from collections import Counter
from dataclasses import asdict, dataclass, fields

import pytest

from captioning.errors import CaptioningError
from captioning.options import RECORDS, DecodeOptions, ModelOptions, TrainOptions, option
from captioning.runtime.flags import Parser, add_flags, add_group, defaults, from_flags
from captioning.training.presets import SCENES, SMOKE


@dataclass(frozen=True)
class TeaOptions:
    """How the tea is made."""

    cups: int = option(2, "how many; 100 % tea")
    sugar_grams: float = option(1.5, "in each cup")
    kind: str = option("green", "which leaves", choices=("green", "black"))
    shop: str = option("", "where it was bought")
    milk: bool = option(False, "with milk")
    hot: bool = option(True, "not iced")
    guests: tuple[str, ...] = option((), "who drinks it")


def parse(*arguments: str, records=(TeaOptions,)) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser, *records)
    return parser.parse_args(arguments)


def tea(*arguments: str, base: TeaOptions | None = None) -> TeaOptions:
    return from_flags(parse(*arguments), base or TeaOptions())


def test_nothing_said_changes_nothing():
    assert tea() == TeaOptions()
    other = TeaOptions(cups=9, milk=True, hot=False, guests=("ann",))
    assert tea(base=other) == other


def test_every_type():
    said = tea("--cups", "3", "--sugar-grams", "2", "--kind", "black", "--milk", "--no-hot", "--guests", "ann", "bob")
    assert said == TeaOptions(3, 2.0, "black", "", True, False, ("ann", "bob"))
    assert isinstance(said.sugar_grams, float)


def test_only_what_is_said_overrides():
    base = TeaOptions(cups=5, milk=True, hot=True, shop="corner")
    assert tea("--cups", "0", "--no-milk", "--shop", "", base=base) == TeaOptions(cups=0, milk=False, hot=True, shop="")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--cups", "many"], "--cups"),
        (["--cups", "1.5"], "--cups"),
        (["--kind", "white"], "'green', 'black'"),
        (["--guests"], "--guests"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(arguments, named, capsys):
    with pytest.raises(SystemExit) as exit:
        tea(*arguments)
    assert exit.value.code == 2
    assert named in capsys.readouterr().err.replace("choose from green, black", "choose from 'green', 'black'")


def test_help_names_flags_defaults_and_choices(capsys):
    with pytest.raises(SystemExit):
        tea("--help")
    text = " ".join(capsys.readouterr().out.split())
    for part in ("tea: How the tea is made.", "100 % tea (default: 2)", "--no-milk", "{green,black}", "--shop SHOP"):
        assert part in text
    assert "(default: )" not in text


def test_a_group_can_have_a_title_of_its_own():
    parser = argparse.ArgumentParser()
    add_group(parser, TeaOptions, "drinks", "Hot or cold.")
    assert "\ndrinks:\n  Hot or cold.\n" in parser.format_help()
    assert from_flags(parser.parse_args(["--cups", "3"]), TeaOptions()).cups == 3


@pytest.mark.parametrize(("program", "name"), [("python -m tea pour", "tea"), ("tea.py", "tea.py")])
def test_a_mistake_is_told_in_one_sentence_that_names_the_help(program, name, capsys):
    parser = Parser(program)
    parser.add_argument("pot")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([])
    assert ended.value.code == 2
    sentence = f"{name}: the following arguments are required: pot; see {program} --help.\n"
    assert capsys.readouterr() == ("", sentence)


def test_every_dial_is_one_flag():
    names = Counter(entry.name for record in RECORDS for entry in fields(record))
    assert names.most_common(1)[0][1] == 1
    assert set(vars(parse(records=RECORDS))) == set(names)
    given = parse(records=RECORDS)
    for record in RECORDS:
        assert from_flags(given, record()) == record()


@pytest.mark.parametrize("record", RECORDS)
def test_every_dial_can_be_turned_by_its_flag(record):
    for entry in fields(record):
        if entry.name == "add_languages":  # only with --bundle
            continue
        flag, default = f"--{entry.name.replace('_', '-')}", entry.default
        if isinstance(default, bool):
            arguments, wanted = [flag], True
        elif isinstance(default, tuple):
            arguments, wanted = [flag, "dog", "cat"], ("dog", "cat")
        else:
            wanted = entry.metadata["choices"][-1] if entry.metadata["choices"] else default
            arguments = [flag, str(wanted)]
        found = from_flags(parse(*arguments, records=RECORDS), record())
        assert asdict(found) == asdict(record()) | {entry.name: wanted}
        assert type(getattr(found, entry.name)) is type(default)


def test_presets_replace_defaults_and_flags_replace_presets():
    base = defaults(ModelOptions, SCENES)
    assert (base.encoder, base.lstm_units, base.image_size) == ("tiny", SCENES["lstm_units"], ModelOptions().image_size)
    given = parse("--lstm-units", "7", records=RECORDS)
    assert from_flags(given, base) == defaults(ModelOptions, SCENES | {"lstm_units": 7})
    assert defaults(TeaOptions, {}) == TeaOptions()


def test_presets_name_dials_that_exist():
    names = {entry.name for record in RECORDS for entry in fields(record)}
    assert set(SCENES) | set(SMOKE) <= names


def test_a_flag_is_checked_where_its_record_is_made():
    with pytest.raises(CaptioningError, match=r"--epochs -1 .*0 or more"):
        from_flags(parse("--epochs", "-1", records=RECORDS), TrainOptions())
    given = parse("--strategy", "sample", "--num-captions", "9", records=RECORDS)
    assert from_flags(given, DecodeOptions()).num_captions == 9


def test_a_flag_of_the_release_before_names_its_new_name(capsys):
    parser = argparse.ArgumentParser()
    add_flags(parser, TrainOptions)
    with pytest.raises(SystemExit):
        parser.parse_args(["--remember", "0.3"])
    assert "--remember is now called --keep-base; use that." in capsys.readouterr().err
    assert "--remember" not in parser.format_help()
