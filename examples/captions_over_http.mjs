// Caption a picture over REST: node examples/captions_over_http.mjs http://127.0.0.1:7860 photo.jpg [KEY]
import { readFile } from "node:fs/promises";
import { basename } from "node:path";

const [service, photo, key] = process.argv.slice(2);
const body = new FormData();
body.append("images", new Blob([await readFile(photo)]), basename(photo));
body.append("num_beams", "5");

const headers = key ? { Authorization: `Bearer ${key}` } : {};
const answer = await fetch(`${service}/v1/captions`, { method: "POST", body, headers });
const found = await answer.json();
if (!answer.ok) {
  console.error(`${answer.status}: ${found.detail}`);
  process.exit(1);
}
for (const caption of found.captions) console.log(caption.caption, `(${caption.verdict})`);
