"""Caption a picture over REST: python examples/captions_over_http.py http://127.0.0.1:7860 photo.jpg [KEY]"""

import sys
from pathlib import Path

import httpx

service, photo, *key = sys.argv[1:]
headers = {"Authorization": f"Bearer {key[0]}"} if key else {}
answer = httpx.post(
    f"{service}/v1/captions",
    files=[("images", (Path(photo).name, Path(photo).read_bytes()))],
    data={"num_beams": 5, "boxes": True},
    headers=headers,
    timeout=60,
)
if answer.is_error:
    sys.exit(f"{answer.status_code}: {answer.json()['detail']}")
for caption in answer.json()["captions"]:
    print(caption["caption"], f"({caption['verdict']})")
    for word in caption["words"]:
        print(f"{word['probability']:6.2f}  {word['text']}  {word['box']}")
