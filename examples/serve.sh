#!/bin/sh
# What a shop does with a server that `allmrec serve RUN` started, with curl alone.
#   sh examples/serve.sh http://127.0.0.1:8000
set -eu
url=${1:-http://127.0.0.1:8000}

call() { # METHOD PATH [BODY]
  curl --silent --show-error --fail-with-body --max-time 60 -X "$1" "$url$2" \
    -H 'Content-Type: application/json' ${ALLMREC_KEY:+-H "Authorization: Bearer $ALLMREC_KEY"} ${3:+--data "$3"}
  echo
}

call GET /health/ready
call GET /v1/model
# An item of the catalogue, and something like it.
item=$(call GET '/v1/items?limit=1' | sed 's/.*"items": *\[{"item_id": *"\([^"]*\)".*/\1/')
call POST /v1/similar "{\"item_id\": \"$item\", \"k\": 3}"
# What somebody did, written once however often it is sent; the next answer knows it.
event="{\"events\": [{\"user_id\": \"curl-user\", \"item_id\": \"$item\", \"key\": \"curl-1\"}]}"
call POST /v1/events "$event"
call POST /v1/events "$event"
call GET /v1/users/curl-user/history
call POST /v1/recommend '{"user": "curl-user", "k": 3}'
# A new item, and an order of items and of a text.
call PUT /v1/items '{"items": [{"item_id": "curl-item", "title": "A new title"}]}'
call POST /v1/rerank "{\"query\": [\"$item\"], \"documents\": [\"curl-item\", \"Some other title\"]}"
call DELETE /v1/items/curl-item
