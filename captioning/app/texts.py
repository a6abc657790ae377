"""The page's own texts in English, German and Chinese. The browser chooses: Gradio's I18n, and `data-t` in our HTML."""

import gradio as gr

from captioning.app.texts_folder import FOLDER
from captioning.app.texts_search import SEARCH

PAGE = {
    # key: English, German, Chinese
    "tab_caption": ("Caption", "Beschreiben", "描述"),
    "tab_batch": ("Batch", "Mehrere", "批量"),
    "tab_folder": ("Folder", "Ordner", "文件夹"),
    "tab_compare": ("Compare", "Vergleichen", "比较"),
    "tab_labels": ("Labels", "Begriffe", "标签"),
    "tab_segments": ("Segments", "Segmente", "分割"),
    "tab_captioner": ("Captioner", "Modell", "模型"),
    "tab_feedback": ("Feedback", "Rückmeldungen", "反馈"),
    "picture": ("Picture", "Bild", "图片"),
    "captioner": ("Captioner", "Modell", "模型"),
    "advanced": ("Advanced", "Weitere Einstellungen", "高级设置"),
    "turned": ("Turned clockwise by", "Im Uhrzeigersinn gedreht um", "顺时针旋转"),
    "brightness": ("Brightness", "Helligkeit", "亮度"),
    "translated_by": ("Translated from English by", "Aus dem Englischen übersetzt von", "英译模型:"),
    "segmenter": ("Segmenter", "Segmentierer", "分割模型"),
    "least_score": ("Least score, in percent", "Mindestwert in Prozent", "最低得分(%)"),
    "area": ("area", "Fläche", "面积"),
    "opacity": ("Opacity of the masks, in percent", "Deckkraft der Masken in Prozent", "遮罩不透明度(%)"),
    "segments_empty": (
        "Choose a picture to see its segments.",
        "Wählen Sie ein Bild, um seine Segmente zu sehen.",
        "选择一张图片以查看其分割结果。",
    ),
    "segments_none": (
        "No segment was found. A lower least score shows less certain ones.",
        "Kein Segment gefunden. Ein kleinerer Mindestwert zeigt auch unsichere.",
        "未找到分割区域。降低最低得分可显示不太确定的区域。",
    ),
    "segments_how": (
        "Press a mask or an entry to caption it. Press an underlined word to highlight its segment.",
        "Drücken Sie auf eine Maske oder einen Eintrag, um eine Beschreibung zu erhalten, oder auf ein unterstrichenes "
        "Wort, um sein Segment hervorzuheben.",
        "点击遮罩或条目即可获得描述;点击带下划线的词可突出显示其区域。",
    ),
    "segments_unlinked": (
        "This captioner gives no attention, so that its words belong to no segment.",
        "Dieses Modell gibt keine Aufmerksamkeit an, daher gehören seine Wörter zu keinem Segment.",
        "该模型不提供注意力,因此无法将词与区域关联。",
    ),
    "question": ("Ask about the picture", "Eine Frage zum Bild", "关于图片提问"),
    "ask": ("Ask", "Fragen", "提问"),
    "others": ("Other captions found", "Weitere Beschreibungen", "其他描述"),
    "part": ("A part of the picture", "Ein Ausschnitt des Bildes", "图片的一部分"),
    "describe_part": ("Caption this part", "Ausschnitt beschreiben", "描述此部分"),
    "crop": ("Crop to this part", "Auf Ausschnitt zuschneiden", "裁剪到此部分"),
    "whole": ("Whole picture", "Ganzes Bild", "整张图片"),
    "feedback": ("Was it right?", "War es richtig?", "描述正确吗?"),
    "rating": ("Rating", "Bewertung", "评分"),
    "correction": ("What it should say", "Was da stehen sollte", "应该怎么写"),
    "comment": ("Comment", "Anmerkung", "备注"),
    "send": ("Send feedback", "Rückmeldung senden", "发送反馈"),
    "head_caption": ("Caption", "Beschreibung", "描述"),
    "head_confidence": ("Confidence", "Sicherheit", "置信度"),
    "head_time": ("Time", "Zeit", "时间"),
    "head_memory": ("Memory", "Speicher", "内存"),
    "head_label": ("Label", "Begriff", "标签"),
    "head_probability": ("Probability", "Wahrscheinlichkeit", "概率"),
    "batch_about": (
        "Up to 200 at once. The table can be downloaded as CSV or JSON.",
        "Bis zu 200 auf einmal. Die Tabelle gibt es als CSV oder JSON.",
        "一次最多 200 张。表格可下载为 CSV 或 JSON。",
    ),
    "batch_pictures": ("Pictures", "Bilder", "图片"),
    "batch_start": ("Caption them all", "Alle beschreiben", "全部描述"),
    "compare_about": (
        "Up to 4 captioners, one after the other. The time is that of captioning, without loading. The memory is what "
        "loading the captioner took.",
        "Bis zu 4 Modelle nacheinander. Die Zeit ist die der Beschreibung, ohne das Laden. Der Speicher ist der, den "
        "das Laden des Modells brauchte.",
        "最多 4 个模型,依次运行。时间是生成描述的时间,不含加载。内存是加载模型所用的内存。",
    ),
    "compare_captioners": ("Captioners", "Modelle", "模型"),
    "compare_start": ("Compare them", "Vergleichen", "开始比较"),
    "labels_about": (
        "Which of some labels fit a picture. The probabilities are shares among these labels.",
        "Welche von mehreren Begriffen zu einem Bild passen. Die Wahrscheinlichkeiten sind Anteile unter diesen.",
        "哪些标签适合一张图片。概率是这些标签之间的比例。",
    ),
    "labels_list": ("Labels, one a line", "Begriffe, einer je Zeile", "标签,每行一个"),
    "labels_by": ("Found by", "Gefunden von", "使用的模型"),
    "labels_chart": ("Chart", "Diagramm", "图表"),
    "labels_find": ("Find labels", "Begriffe finden", "查找标签"),
    "list_beings": ("People and animals", "Menschen und Tiere", "人和动物"),
    "list_places": ("Places", "Orte", "地点"),
    "head": (
        "Choose a picture to get a caption. Press a word to see its attention: the parts of the picture that counted "
        "most.",
        "Wählen Sie ein Bild, um eine Beschreibung zu erhalten. Drücken Sie auf ein Wort, um zu sehen, welche Teile "
        "des Bildes dafür am meisten zählten.",
        "选择一张图片即可获得描述。点击一个词,查看图片中对它最重要的部分。",
    ),
    "welcome": ("No picture yet.", "Noch kein Bild.", "还没有图片。"),
    "welcome_how": (
        "Drop one, paste one, or take one with the camera.",
        "Ziehen Sie eines hierher, fügen Sie eines ein oder nehmen Sie eines auf.",
        "拖入、粘贴或用相机拍摄一张。",
    ),
    "again_hint": (
        "“Caption again” searches with these settings.",
        "„Neu beschreiben“ sucht mit diesen Einstellungen.",
        "“重新描述”按这些设置搜索。",
    ),
    "copy": ("Copy caption", "Text kopieren", "复制描述"),
    "copied": ("Copied", "Kopiert", "已复制"),
    "again": ("Caption again", "Neu beschreiben", "重新描述"),
    "aloud": ("Read aloud", "Vorlesen", "朗读"),
    "hush": ("Stop reading", "Vorlesen beenden", "停止朗读"),
    "play": ("Play", "Abspielen", "播放"),
    "pause": ("Pause", "Anhalten", "暂停"),
    "busy": ("Captioning ...", "Wird beschrieben ...", "正在生成描述 ..."),
    "opening": ("Opening the captioner ...", "Modell wird geöffnet ...", "正在打开模型 ..."),
    "failed": (
        "There is no caption: the request failed. Choose the picture again.",
        "Keine Beschreibung: Die Anfrage ist fehlgeschlagen. Wählen Sie das Bild noch einmal.",
        "没有描述:请求失败。请重新选择图片。",
    ),
}
LANGUAGES = ("en", "de", "zh")
TEXTS = {
    code: {key: texts[place] for key, texts in (PAGE | FOLDER | SEARCH).items()} for place, code in enumerate(LANGUAGES)
}
SAY = gr.I18n(**TEXTS, **{"zh-CN": TEXTS["zh"], "zh-TW": TEXTS["zh"]})
SCRIPTED = {code: {key: text for key, text in texts.items() if key in PAGE} for code, texts in TEXTS.items()}
