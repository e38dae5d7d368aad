#!/bin/sh
# The bundle that comes with calora, made again: adapters of rank 4, small enough to ship, and their calibration.
#   sh recipes/ready-made.sh
# Half an hour on one core of a machine that is fast in bfloat16; goes on where it was stopped. On another processor the
# last bits differ, and so do the files.
set -e
PLACE=runs/ready-made
BUNDLE=src/calora/data/bundles/gemma3-270m
for TASK in summary es; do
    [ -e $PLACE/$TASK/adapter_model.safetensors ] ||
        calora train $TASK $PLACE/$TASK --rank 4 --learning-rate 2e-4 --epochs 2
done
[ -e $PLACE/summary+es/calibration.json ] ||
    calora calibrate summary+es $PLACE/summary $PLACE/es --out $PLACE/summary+es \
        --start product --strengths 0.6,0.6 --learning-rate 1e-3 --epochs 2
calora bundle $PLACE/bundle --adapter $PLACE/summary --adapter $PLACE/es --calibration $PLACE/summary+es --dtype q8_0 --force
rm -rf $BUNDLE/adapters $BUNDLE/calibrations
cp -r $PLACE/bundle/. $BUNDLE
calora bundle $BUNDLE --check
