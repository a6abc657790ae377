"""The published captioners that can be called by a short name: what each is, its licence and its size.

Sizes are those of the weights in float32, counted on the architectures. A revision is the commit that is downloaded.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published captioner."""

    source: str  # its name on the Hugging Face hub
    revision: str  # empty: the one that the hub has when it is first downloaded
    licence: str
    parameters: int
    languages: tuple[str, ...] = ("en",)

    @property
    def address(self) -> str:
        """Its name with its revision, as hf_hub.folder_of takes it."""
        return f"{self.source}@{self.revision}" if self.revision else self.source

    @property
    def size(self) -> int:
        """Bytes of its weights in float32."""
        return 4 * self.parameters


PUBLISHED = {
    "blip": Published(
        "Salesforce/blip-image-captioning-large",
        "353689b859fcf0523410b1806dace5fb46ecdf41",
        "BSD-3-Clause",
        446_290_492,
    ),
    "blip2": Published("Salesforce/blip2-opt-2.7b", "59a1ef6c1e5117b3f65523d1c6066825bcf315e3", "MIT", 3_744_761_856),
    "git": Published("microsoft/git-base-coco", "", "MIT", 176_619_066),
    "vit-gpt2": Published(
        "nlpconnect/vit-gpt2-image-captioning", "dc68f91c06a1ba6f15268e5b9c13ae7a7c514084", "Apache-2.0", 239_195_904
    ),
    "florence-2": Published("florence-community/Florence-2-base", "", "MIT", 231_414_016),
}
