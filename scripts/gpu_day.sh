#!/usr/bin/env bash
# What to run where one GPU is lent for a quarter of an hour, without a network: done in 8 minutes, the most wanted first.
#
#   scripts/gpu_day.sh [--minutes 8] [--device cuda|cpu] [--wheels FOLDER]
#   scripts/gpu_day.sh --list-wheels [FILE]
#
# In this order: facts, the tests marked gpu, hornet-bench step in eager mode, with compiled blocks and compiled as a whole,
# hornet-bench limit with the costliest kernels, hornet-bench step with CUDA graphs, the digits with their accuracy,
# drawn shapes with masks and with objects, hornet-bench detectors, a deterministic and a compiled training. Each part has its own time limit and none ends the others. The results are in
# the folder $OUT (by default gpu_day), written again after each part:
#   summary.md    what was found, with a line for each part: done, failed or time over
#   results.json  the figures of the benches and trainings
#   status.txt, tests.txt, log.txt
#
# Needs a Python ($PYTHON, by default python3) with torch 2.9 or newer and what pyproject.toml asks for. What is missing there
# is installed from a folder of wheels into an environment that is removed at the end; the installed torch and its
# torchvision are used as they are, and never replaced. --list-wheels prints the pip command that fetches those wheels,
# without torch and CUDA; with FILE, the output of `pip freeze` on that machine (or names, one a line), only what it
# lacks. Run it where hornet-train is installed.
# --device cpu is for trying the script: the smallest models and images, and torch.compile does nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
helper=$root/scripts/gpu_day.py
python=${PYTHON:-python3}
out=${OUT:-gpu_day}
minutes=8 device=cuda wheels=

usage() {
    echo "gpu_day.sh: $1; see the head of scripts/gpu_day.sh" >&2
    exit 2
}
while (($#)); do
    case $1 in
        --list-wheels)
            [[ -n ${PYTHON:-} || ! -x $root/.venv/bin/python ]] || python=$root/.venv/bin/python
            exec "$python" "$helper" list-wheels "${@:2}"
            ;;
        --minutes) minutes=${2:-} ;;
        --device) device=${2:-} ;;
        --wheels) wheels=${2:-} ;;
        *) usage "$1 is not an option" ;;
    esac
    (($# > 1)) || usage "$1 needs a value"
    shift 2
done
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || usage "--minutes $minutes is not a number"
[[ $device == cuda || $device == cpu ]] || usage "--device $device is not cuda or cpu"
[[ -z $wheels || -d $wheels ]] || usage "--wheels $wheels is not a folder"

seconds=$(awk "BEGIN { print int($minutes * 60) }")
end=$((seconds - 8)) # the rest is for the summary
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d)
mkdir "$work/results"
: >"$out/status.txt" && : >"$out/log.txt" && : >"$out/tests.txt"
background=()
stop_background() {
    local pid
    for pid in "${background[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    background=()
}
finish() {
    stop_background
    "$python" "$helper" summary "$out" "$work" || true
    rm -rf "$work"
}
trap finish EXIT

# Of 480 seconds; never beyond the end of the whole.
limited() {
    local limit=$(($1 * seconds / 480)) left=$((end - SECONDS))
    limit=$((limit < left ? limit : left))
    echo $((limit < 1 && left > 0 ? 1 : limit))
}

# part NAME LIMIT LOG COMMAND...
part() {
    local name=$1 limit begin=$SECONDS code=0 how="done"
    limit=$(limited "$2")
    if ((limit < 1)); then
        code=124
    else
        echo "== $name" >>"$3"
        timeout --kill-after=2 "$limit" "${@:4}" >>"$3" 2>&1 </dev/null || code=$?
    fi
    case $code in
        0) ;;
        124 | 137) how="time over" ;;
        *) how="failed (code $code)" ;;
    esac
    printf '%-30s  %-16s %4d s\n' "$name" "$how" "$((SECONDS - begin))" | tee -a "$out/status.txt"
    ((limit < 1)) || "$python" "$helper" summary "$out" "$work" || true
}

cd "$work"
export PYTHONUNBUFFERED=1 PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 WANDB_MODE=offline
part environment 45 "$out/log.txt" "$python" "$helper" environment "$work/venv" "$wheels"
bin=$work/venv/bin
part facts 20 "$out/log.txt" "$bin/python" "$helper" facts "$device" "$work/results/facts.json"

if [[ $device == cuda ]]; then
    models=hornet_tiny_7x7,hornet_tiny_gf peers=convnext_tiny,swin_tiny_patch4_window7_224 batch=128 rounds=15
    step=(image_size=224)
    limit=(batch_size=128)
    digits=(data.workers=2)
    drawn=(--train 400 --val 50 --size 128)
    masks=(recipe=masks model.fusion=gf precision=bf16 batch_size=32 epochs=4 eval.every=4ep checkpoint.every=4ep)
    objects=(recipe=objects model.neck=horfpn_gf precision=bf16 batch_size=16 epochs=4 eval.every=4ep checkpoint.every=4ep
        "data.scale=[128,128]" "augment.short_sides=[128]" augment.copy_paste=0.5)
    detectors=("image_size=[800,1216]" batch_size=2 objects=16)
    some=(data.workers=2 precision=bf16 epochs=30it schedule.warmup=5it eval.every=30it checkpoint.every=30it)
else
    export TORCH_COMPILE_DISABLE=1 # that would take minutes there, and shows nothing about this script
    models=hornet_pico_7x7,hornet_pico_gf peers=test_convnext,test_vit batch=2 rounds=2
    step=(image_size=32)
    limit=(batch_size=2 image_size=32)
    small=(data=synthetic data.train_count=40 data.val_count=21 data.num_classes=4 data.source_size=24
        data.image_size=32 data.workers=0 batch_size=8 schedule.warmup=1it optim.lr=1e-3)
    digits=("${small[@]}" epochs=5it eval.every=5it)
    drawn=(--train 8 --val 3 --size 48)
    masks=(recipe=masks model.fusion=gf model.channels=16 data.image_size=32 data.workers=0 epochs=2it eval.every=2it
        schedule.warmup=1it)
    objects=(recipe=objects model.neck=horfpn_gf model.channels=16 model.width=16 "data.scale=[48,48]" data.workers=0
        "augment.short_sides=[48]" augment.copy_paste=0.5 epochs=1it eval.every=1it schedule.warmup=1it batch_size=4)
    detectors=(image_size=64 objects=2 regions=8)
    some=("${small[@]}" epochs=3it eval.every=3it)
fi
step+=(batch_size="$batch" rounds="$rounds" precision=bf16 layouts=channels_last dist.device="$device")
limit+=(precision=bf16 dist.device="$device")

# Meanwhile, on cores that the tests leave idle: the compiler's work for the models that are measured further down,
# which it then finds in its cache. Not where their memory together could be missing to the tests.
warm_up() {
    local model mode memory
    memory=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -n 1) || return 0
    [[ $memory =~ ^[0-9]+$ ]] && ((memory > 60000 && $(nproc) >= 8)) || return 0
    for model in ${models//,/ } ${peers//,/ }; do
        timeout --kill-after=3 "$(limited 110)" "$bin/hornet-bench" step models="$model" peers="$model" "${step[@]}" \
            compile=all rounds=1 out="$work/warm_$model.json" >"$work/warm_$model.txt" 2>&1 </dev/null &
        background+=("$!")
    done
}
[[ $device == cpu ]] || warm_up

mapfile -t files < <(cd "$root" && grep -rlE 'mark\.gpu|NEEDS_GPU|DEVICES' --include='test_*.py' tests)
part tests 125 "$out/tests.txt" env -C "$root" "$bin/python" -m pytest -m gpu -v -p no:cacheprovider -n "$(($(nproc) > 7 ? 5 : 1))" \
    --dist worksteal --time-limit="$(limited 70)" --continue-on-collection-errors --durations=10 "${files[@]}"
stop_background

for mode in inference train; do
    part "step eager $mode" 40 "$out/log.txt" "$bin/hornet-bench" step models="$models" peers="$peers" "${step[@]}" \
        modes="$mode" compile=false out="$work/results/step_eager_$mode.json"
done
for mode in inference train; do
    part "step blocks $mode" 50 "$out/log.txt" "$bin/hornet-bench" step models="$models" peers="$peers" "${step[@]}" \
        modes="$mode" compile=blocks out="$work/results/step_blocks_$mode.json"
done
for mode in inference train; do
    part "step compiled $mode" 60 "$out/log.txt" "$bin/hornet-bench" step models="$models" peers="$peers" "${step[@]}" \
        modes="$mode" compile=true out="$work/results/step_compiled_$mode.json"
done
for model in ${models//,/ }; do
    part "limit $model" 20 "$out/log.txt" "$bin/hornet-bench" limit model="$model" "${limit[@]}" \
        out="$work/results/limit_$model.json"
done

for mode in inference train; do
    if [[ $device == cuda ]]; then
        part "step graphs $mode" 45 "$out/log.txt" "$bin/hornet-bench" step models="$models" peers="${peers%%,*}" \
            "${step[@]}" modes="$mode" compile=graphs out="$work/results/step_graphs_$mode.json"
    fi
done

part "train digits" 85 "$out/log.txt" "$bin/hornet-train" "${digits[@]}" dist.device="$device" run_dir="$work/digits"
part "evaluate digits" 15 "$out/log.txt" "$bin/hornet-eval" checkpoint="$work/digits" dist.device="$device" \
    out="$work/results/digits.json"
part "draw shapes" 30 "$out/log.txt" "$bin/python" "$root/scripts/make_shapes.py" "$work/shapes" "${drawn[@]}"
part "train segmentation" 60 "$out/log.txt" "$bin/hornet-train" "${masks[@]}" data.root="$work/shapes" \
    dist.device="$device" run_dir="$work/segmentation"
part "evaluate segmentation" 20 "$out/log.txt" "$bin/hornet-eval" checkpoint="$work/segmentation" worst=0 \
    dist.device="$device" out="$work/results/segmentation.json"
part "train detection" 60 "$out/log.txt" "$bin/hornet-train" "${objects[@]}" data.root="$work/shapes" \
    dist.device="$device" run_dir="$work/detection"
part "evaluate detection" 20 "$out/log.txt" "$bin/hornet-eval" checkpoint="$work/detection" worst=0 \
    dist.device="$device" out="$work/results/detection.json"
part "detectors" 45 "$out/log.txt" "$bin/hornet-bench" detectors "${detectors[@]}" rounds="$rounds" \
    dist.device="$device" out="$work/results/detectors.json"
for model in hornet_pico_7x7 hornet_pico_gf; do
    part "deterministic $model" 20 "$out/log.txt" "$bin/hornet-train" "${some[@]}" model="$model" deterministic=true \
        dist.device="$device" run_dir="$work/deterministic_$model"
done
for model in hornet_pico_7x7 hornet_pico_gf; do
    for how in blocks true; do
        part "compile=$how $model" 45 "$out/log.txt" "$bin/hornet-train" "${some[@]}" model="$model" compile="$how" \
            dist.device="$device" run_dir="$work/compile_${how}_$model"
    done
done
