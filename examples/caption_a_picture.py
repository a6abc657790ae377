"""Caption a picture, and say how sure the model is: python examples/caption_a_picture.py photo.jpg"""

import sys

import captioning

captioner = captioning.load()
caption = captioner.caption(sys.argv[1])
print(caption.text)
if caption.confidence is not None:
    print(f"confidence {caption.confidence:.2f}", "" if caption.sure else "(not sure)")
for word in caption.words:
    print(f"{word.probability:6.2f}  {word.text}")
