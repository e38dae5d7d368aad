#!/bin/sh
# The data of the recipes in this folder, fetched from the hub and composed by teachers; goes on where it was stopped.
#   sh recipes/paper-scale/data.sh
set -e
for NAME in paper-dialogsum paper-persona-chat ted-talks; do
    calora compose-data recipes/data/$NAME.yaml runs/data/$NAME
done
mkdir -p data/paper
cp runs/data/paper-dialogsum/records.jsonl data/paper/dialogsum.jsonl
cp runs/data/paper-persona-chat/records.jsonl data/paper/persona-chat.jsonl
cp runs/data/ted-talks/records.jsonl data/paper/ted-talks.jsonl
