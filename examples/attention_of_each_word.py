"""Show where the model attends for each word: python examples/attention_of_each_word.py photo.jpg attention.png"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

import captioning

with Image.open(sys.argv[1]) as file:
    picture = file.convert("RGB").resize((224, 224))
words = captioning.load().caption(picture).words
figure, axes = plt.subplots(1, len(words), figsize=(2 * len(words), 2.3), squeeze=False)
for axis, word in zip(axes[0], words, strict=True):
    axis.imshow(picture)
    axis.imshow(word.attention, cmap="plasma", alpha=0.5, extent=(0, 224, 224, 0), interpolation="bilinear")
    axis.set_title(word.text)
    axis.axis("off")
figure.savefig(sys.argv[2], dpi=100, bbox_inches="tight")
