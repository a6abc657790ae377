#!/bin/sh
# Caption pictures over REST with curl: sh examples/captions_over_http.sh http://127.0.0.1:7860 photo.jpg [KEY]
service=$1 photo=$2 key=${3:-none}
curl --fail-with-body --silent --show-error -H "Authorization: Bearer $key" -F images=@"$photo" -F num_beams=5 \
  "$service/v1/captions"
echo
# Many pictures in the background: the answer names the job, /v1/jobs/ID says how far it is.
curl --fail-with-body --silent --show-error -H "Authorization: Bearer $key" -F images=@"$photo" -F images=@"$photo" \
  "$service/v1/jobs"
