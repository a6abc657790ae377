"""Names and helps of the search options in German and Chinese; the English ones are those of the command line."""

from dataclasses import fields

from captioning.options import DecodeOptions

ENGLISH = {"num_beams": "Beams", "num_captions": "Captions", "no_repeat_ngram_size": "Unique runs of words"}
TRANSLATED = {
    # field: German name and help, Chinese name and help
    "strategy": ("Suchverfahren", "Art der Suche", "搜索策略", "搜索的方式"),
    "num_beams": ("Suchbreite", "Zahl der Beams", "束宽", "beam 的数量"),
    "num_captions": (
        "Beschreibungen",
        "Zahl der Beschreibungen, die beste zuerst",
        "描述数量",
        "返回的描述数,最好的在前",
    ),
    "max_length": ("Größte Länge", "höchste Zahl der Wörter ohne das Endezeichen", "最大长度", "最多词数,不计结束符"),
    "min_length": ("Kleinste Länge", "kleinste Zahl der Wörter", "最小长度", "最少词数"),
    "length_penalty": (
        "Längenausgleich",
        "die Log-Wahrscheinlichkeit wird durch die Länge hoch diesen Wert geteilt",
        "长度惩罚",
        "对数概率除以长度的该次幂",
    ),
    "repetition_penalty": (
        "Wiederholungsabzug",
        "teilt die Wahrscheinlichkeit schon benutzter Wörter; 1: aus",
        "重复惩罚",
        "已用词的概率除以该值;1:关闭",
    ),
    "no_repeat_ngram_size": (
        "Einmalige Wortfolgen",
        "keine Wortfolge dieser Länge kommt zweimal vor, kein Wort folgt auf sich selbst; 0: aus",
        "不重复的词组",
        "该长度的词组不出现两次,同一词不连续出现;0:关闭",
    ),
    "temperature": ("Temperatur", "Temperatur der Stichprobe", "温度", "采样温度"),
    "top_k": (
        "Top k",
        "Stichprobe: nur die k wahrscheinlichsten Wörter; 0: alle",
        "Top k",
        "采样:只取最可能的 k 个词;0:全部",
    ),
    "top_p": (
        "Top p",
        "Stichprobe: nur die wahrscheinlichsten Wörter, die zusammen diese Wahrscheinlichkeit haben",
        "Top p",
        "采样:只取累计达到该概率的最可能的词",
    ),
    "force": ("Verlangte Wörter", "Wörter, die in jeder Beschreibung vorkommen", "必须包含", "每条描述都必须包含的词"),
    "forbid": (
        "Verbotene Wörter",
        "Wörter, die in keiner Beschreibung vorkommen",
        "禁止使用",
        "任何描述都不得包含的词",
    ),
    "sampling_seed": ("Startwert", "Startwert der Stichprobe", "随机种子", "采样的随机种子"),
    "mirrored": (
        "Gespiegelt",
        "Mittel der Merkmale des Bildes und seines Spiegelbilds, bei doppelter Rechenzeit des Encoders",
        "镜像",
        "与镜像图片的特征取平均,编码时间加倍",
    ),
    "language": (
        "Sprache",
        "Sprache der Beschreibung, etwa de, wo das Modell mehrere hat; sonst seine eigene",
        "语言",
        "描述的语言,如 de(若模型支持多种);默认为模型自身的语言",
    ),
}


def _texts() -> dict[str, tuple[str, str, str]]:
    texts = {}
    for field in fields(DecodeOptions):
        name = ENGLISH.get(field.name, field.name.replace("_", " ").capitalize())
        german, german_help, chinese, chinese_help = TRANSLATED[field.name]
        texts[f"option_{field.name}"] = (name, german, chinese)
        texts[f"help_{field.name}"] = (field.metadata["help"], german_help, chinese_help)
    return texts


SEARCH = _texts()
