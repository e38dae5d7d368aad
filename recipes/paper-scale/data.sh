#!/bin/sh
# The data of the recipes in this folder, fetched from the hub and composed by teachers; goes on where it was stopped.
#   sh recipes/paper-scale/data.sh
set -e
for NAME in ted-talks paper-dialogsum paper-persona-chat; do
    calora compose-data recipes/data/$NAME.yaml runs/data/$NAME
done
mkdir -p runs/data/paper
cp runs/data/paper-dialogsum/records.jsonl runs/data/paper/dialogsum.jsonl
cp runs/data/paper-persona-chat/records.jsonl runs/data/paper/persona-chat.jsonl
cp runs/data/ted-talks/records.jsonl runs/data/paper/ted-talks.jsonl
