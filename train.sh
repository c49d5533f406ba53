#!/usr/bin/env bash
# bash train.sh [--field value]...   train on the contest tree in Dataset/; fields go to `train.py clip_fewshot`
# bash train.sh --demo               set up everything, then train and score on embedded data
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
    sed -n '2,3s/^# //p' "$0"
    exit
fi

if [ "${1:-}" = --demo ]; then
    . scripts/environment.sh
    use_environment requirements.txt
    data=Dataset/demo made=runs/demo
    "$python" -m scripts.make_demo $data
    # digits are not mirrored, and crops keep nearly all of them
    crops=(--crops.flip False --crops.scale 0.8 1)
    # random crops, as in CLIP's own training: without them the model knows no views like those at test time
    "$python" train.py clip_pretrain --captions $data/captions.jsonl --out $made/ViT-B-32.pkl \
        --run $made/pretrain --epochs 14 --views 8 "${crops[@]}"
    # a second small CLIP with other patches takes the place of the contest's res1000epoch.pkl
    "$python" train.py clip_pretrain --captions $data/captions.jsonl --out $made/auxiliary.pkl \
        --run $made/pretrain_auxiliary --image_size 32 --patch_size 8 --epochs 10 --seed 1 \
        --views 8 "${crops[@]}"
    common=(--data $data --weights $made/ViT-B-32.pkl --auxiliary $made/auxiliary.pkl)
    common+=(--parts $made/test_pkl --cache $made/cache)
    # 28 images and a width of 128 need larger and more frequent steps
    "$python" train.py clip_fewshot "${common[@]}" --runs $made/runs "${crops[@]}" \
        --lora.scale 0.8 1 --lora.lr 2e-3 --lora.batch_size 7 "${@:2}"
    "$python" test.py "${common[@]}" --out $made --labels $data/TestSetB_labels.txt --views 16
    exit
fi

python=${PYTHON:-python3}
"$python" train.py clip_fewshot "$@"
