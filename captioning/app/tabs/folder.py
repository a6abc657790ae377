"""The tab on which the pictures of a folder are captioned, looked through and corrected.

The server renders its frame once. folder.js fills it, through the addresses of folder_routes.py.
"""

import json
from html import escape

from captioning.app.texts import TEXTS
from captioning.app.widgets import piece, script
from captioning.serving.library import FILTERS, ORDERS
from captioning.serving.pool import CaptionerPool

TARGETS = ("metadata", "xmp", "txt", "csv")
EXISTS = ("skip", "append", "prepend", "overwrite")


class FolderTab:
    """A grid of pictures with their captions."""

    def __init__(self, pool: CaptionerPool) -> None:
        piece(_frame(pool), script=script("folder"), elem_id="folder")


def _frame(pool: CaptionerPool) -> str:
    texts = escape(json.dumps({code: _own(texts) for code, texts in TEXTS.items()}, ensure_ascii=False))
    captioners = [(name, label) for name, label in pool.labels.items()]
    languages = [("", "-"), *((code, code) for code in pool.languages)]
    return f"""<section class="folder" data-texts="{texts}">
<form class="bar open"><label class="wide"><span data-t="folder_path"></span>
<input name="folder" list="places" autocomplete="off" spellcheck="false"></label><datalist id="places"></datalist>
<button class="main" data-t="folder_open"></button></form>
<p class="faint" data-t="folder_hint" data-part="hint"></p>
<div data-part="opened" hidden>
<div class="bar">{_select("bundle", captioners, hidden=len(captioners) < 2)}
{_select("language", languages, hidden=len(languages) < 2)}
<button class="main" data-act="caption" data-t="folder_caption"></button>
<button class="quiet" data-act="stop" data-t="folder_stop"></button>
<progress max="1" value="0" data-ta="folder_progress"></progress><span data-part="progress"></span></div>
<div class="bar"><label class="wide"><span data-t="folder_search"></span><input name="words" type="search"></label>
{_select("show", [(name, f"show_{name}") for name in FILTERS], is_translated=True)}
{_select("order", [(name, f"order_{name}") for name in ORDERS], is_translated=True)}</div>
<details><summary data-t="folder_more"></summary>
<form class="bar replace"><label><span data-t="folder_find"></span><input name="find"></label>
<label><span data-t="folder_put"></span><input name="put"></label>
<button class="quiet" data-t="folder_replace"></button></form>
<div class="bar">{_select("target", [(name, f"target_{name}") for name in TARGETS], is_translated=True)}
{_select("exists", [(name, f"exists_{name}") for name in EXISTS], is_translated=True)}
<button class="quiet" data-act="write" data-t="folder_write"></button>
<button class="quiet" data-act="take-back" data-t="folder_take_back"></button></div>
<p class="faint" data-part="kept"></p></details>
<div class="bar"><span data-part="count" role="status"></span>
<button class="quiet" data-act="accept" data-t="folder_accept"></button>
<button class="quiet" data-act="undo" data-t="folder_undo"></button></div>
<p class="told" role="alert" data-part="told"></p>
<div class="grid" role="grid" tabindex="0" data-ta="folder_grid"><div class="room"></div></div>
<p class="faint keys" data-t="folder_keys"></p></div></section>"""


def _select(name: str, choices: list[tuple[str, str]], *, is_translated: bool = False, hidden: bool = False) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{f" data-t={label}" if is_translated else ""}>'
        f"{'' if is_translated else escape(label)}</option>"
        for value, label in choices
    )
    shown = " hidden" if hidden else ""
    return f'<label{shown}><span data-t="folder_{name}"></span><select name="{name}">{options}</select></label>'


def _own(texts: dict[str, str]) -> dict[str, str]:
    starts = ("folder_", "show_", "order_", "target_", "exists_", "verdict_")
    return {key: text for key, text in texts.items() if key.startswith(starts)}
