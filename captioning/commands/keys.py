"""The command that makes, lists and revokes keys of the REST service."""

import argparse
from pathlib import Path

from captioning.commands.arguments import Command
from captioning.errors import CaptioningError
from captioning.runtime.flags import Parser

ROLES = ("caption", "admin")  # those of serving/keys.py, which --help does not wait for


def _add_keys(command: Parser) -> None:
    add = command.add_argument
    add("action", choices=("create", "list", "revoke"), metavar="ACTION", help="create, list or revoke")
    add("name", nargs="?", default="", metavar="NAME", help="name of the key; revoke takes its id too")
    add("--role", default="caption", choices=ROLES, help="admin: also figures and all jobs (default: %(default)s)")
    add("--per-hour", type=int, default=0, metavar="N", help="pictures per hour; 0: no limit (default: %(default)s)")
    add("--per-day", type=int, default=0, metavar="N", help="pictures per day; 0: no limit (default: %(default)s)")
    add("--state", type=Path, default=Path("service"), help="folder of the service (default: %(default)s)")


def _keys(flags: argparse.Namespace) -> int:
    from captioning.serving.keys import FILE, KeyStore

    if flags.action != "list" and not flags.name:
        raise CaptioningError(f"keys {flags.action} needs the NAME of a key; give one.")
    store = KeyStore(flags.state / FILE)
    if flags.action == "create":
        print(store.create(flags.name, role=flags.role, per_hour=flags.per_hour, per_day=flags.per_day))
    elif flags.action == "revoke":
        store.revoke(flags.name)
        print(f"{flags.name} is revoked.")
    else:
        print("id\tname\trole\tper hour\tper day\tpictures\tlast used\tstate")
        for key in store.list():
            caller, state = key.caller, f"revoked {key.revoked}" if key.revoked else "in use"
            limits = (caller.per_hour or "-", caller.per_day or "-")
            print(caller.id, caller.name, caller.role, *limits, key.pictures, key.last or "never", state, sep="\t")
    return 0


KEYS = Command(
    "keys ACTION [NAME]",
    "make, list and revoke keys of the REST service",
    (
        "create blog --per-day 500             # prints the key once",
        "create prometheus --role admin",
        "list",
        "revoke blog",
    ),
    add=_add_keys,
    run=_keys,
)
