"""The page: its tabs, its endpoints, its theme."""

import json
from pathlib import Path

import gradio as gr

from captioning.app import rendering
from captioning.app.endpoints import add_endpoints
from captioning.app.tabs.batch import BatchTab
from captioning.app.tabs.caption import CaptionTab
from captioning.app.tabs.compare import CompareTab
from captioning.app.tabs.feedback import FeedbackTab
from captioning.app.tabs.folder import FolderTab
from captioning.app.tabs.labels import LabelsTab
from captioning.app.tabs.model import ModelTab
from captioning.app.tabs.segments import SegmentsTab
from captioning.app.texts import SAY, SCRIPTED
from captioning.app.widgets import piece, script
from captioning.data.feedback import FeedbackStore
from captioning.serving.labelling import LabelService
from captioning.serving.pool import CaptionerPool

WAITING = 24  # requests that may wait; the next one is told that the app is busy
POLLING = 0.02  # seconds; Gradio looks for new requests every millisecond, which keeps an idle processor awake

LOOKS = [Path(__file__).with_name(name) for name in ("page.css", "folder.css", "segments.css")]
FONT = ("ui-sans-serif", "system-ui", "sans-serif")
THEME = gr.themes.Default(
    primary_hue="purple", secondary_hue="purple", neutral_hue="zinc", radius_size="lg", font=FONT, font_mono="monospace"
).set(
    body_text_color_subdued="*neutral_600",  # grey that can still be read
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    color_accent="*primary_600",  # of the selected tab: 5.4:1 on white
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
)


def build_page(pool: CaptionerPool, store: FeedbackStore, *, is_public: bool, has_folders: bool = False) -> gr.Blocks:
    """The page of these bundles; a public one takes feedback, but shows none. `has_folders`: folders can be opened."""
    with gr.Blocks(title="Captioning", analytics_enabled=False) as page:
        piece(rendering.HEADER)
        with gr.Tabs():
            with gr.Tab(SAY("tab_caption")):
                CaptionTab(pool, store)
            with gr.Tab(SAY("tab_batch")):
                BatchTab(pool)
            if has_folders:
                with gr.Tab(SAY("tab_folder")):
                    FolderTab(pool)
            if len(pool.names) > 1:
                with gr.Tab(SAY("tab_compare")):
                    CompareTab(pool)
            if (labelling := LabelService(pool, pool.labels_model)).models:
                with gr.Tab(SAY("tab_labels")):
                    LabelsTab(labelling)
            if pool.segmenters:
                with gr.Tab(SAY("tab_segments")):
                    SegmentsTab(pool)
            with gr.Tab(SAY("tab_captioner")):
                model = ModelTab(pool)
            if not is_public:
                with gr.Tab(SAY("tab_feedback")) as tab:
                    tab.select(**FeedbackTab(store, pool.labels).wiring)
        page.load(**model.wiring)
        page.load(None, js=script("page").replace("OUR_TEXTS", json.dumps(SCRIPTED)), api_visibility="private")
        add_endpoints(pool)
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    page._queue.sleep_when_free = POLLING
    return page
