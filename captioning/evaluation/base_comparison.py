"""Scores of a captioner beside those of the base model that its training started from, on the same images."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from captioning.evaluation import metrics
from captioning.evaluation.predictions import tokens

if TYPE_CHECKING:
    from captioning.evaluation.scoring import Scores

DECISIVE = "CIDEr-D"
ADVICE = "Keep the base model, or collect more captions."


def compare_with_base(scores: "Scores", base_scores: "Scores", name: str) -> None:
    """Add to every score card the base model's name, its scores, and the differences with their 95 % intervals."""
    for split, scored in scores.splits.items():
        base = base_scores.splits[split]
        new, old = ([tokens(each.caption) for each in side.predictions] for side in (scored, base))
        references = [[tokens(text) for text in each.references] for each in scored.predictions]
        gains = metrics.difference(new, old, references)
        scored.card["beside_base"] = {
            "name": name,
            "scores": base.card["scores"],
            "differences": {
                metric: {key: round(value, 4) for key, value in asdict(gain).items()} for metric, gain in gains.items()
            },
        }


def base_text(card: Mapping[str, Any]) -> list[str]:
    """Return the lines of a score card that show the base model; none where there is no base model."""
    if "beside_base" not in card:
        return []
    base = card["beside_base"]
    lines = [f"  beside its base model {base['name']}:", f"  {'':<26}base   new    difference"]
    for metric, gain in base["differences"].items():
        old, new = (scores[metric]["value"] for scores in (base["scores"], card["scores"]))
        interval = f"(95 % between {gain['low']:+.3f} and {gain['high']:+.3f})"
        lines.append(f"  {metric:<26}{old:.3f}  {new:.3f}  {gain['value']:+.3f}  {interval}")
    return lines


def verdict(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """Return in a sentence or two whether the captioner is better than its base model, on test or else on dev."""
    card = cards.get("test") or cards["dev"]
    base, gain = card["beside_base"], card["beside_base"]["differences"][DECISIVE]
    old, new = (scores[DECISIVE]["value"] for scores in (base["scores"], card["scores"]))
    where = f"than {base['name']} on the {card['split']} images ({DECISIVE} {new:.3f}, base {old:.3f})"
    if gain["high"] < 0:
        return f"The new captioner is worse {where}. {ADVICE}"
    if gain["low"] > 0:
        return f"The new captioner is better {where}."
    chance = f"within chance: {card['images']:,} images cannot tell them apart"
    if gain["value"] < 0:
        return f"The new captioner scores lower {where}, {chance}. {ADVICE}"
    if gain["value"] == 0:
        return f"The new captioner scores no higher {where}. {ADVICE}"
    return f"The new captioner scores higher {where}, {chance}."
