#!/usr/bin/env bash
# Checks what only a machine with an NVIDIA GPU can show, and measures the phase signature there. Each step has a limit,
# 1,100 s in all.
#
#     tools/gpu_checks.sh FOLDER        results go to FOLDER: JSON, pictures, and all output in log.txt
#
# Needs torch with CUDA, transformers and nvidia-ml-py; the tests also need what docs/profiling.md lists, and what starts
# engines needs Chiasm installed as for a GPU, curl, and 20 GB of the folder for temporary files. A step that fails does
# not keep the others from running; then the exit code is 1. PYTHON names the interpreter (python3).
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
out=${1:?usage: tools/gpu_checks.sh FOLDER}
python=${PYTHON:-python3}
mkdir -p "$out" || exit 2
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 COLUMNS=160 HF_HUB_OFFLINE=1
failed=()
: >"$out/log.txt"

step() {  # step NAME SECONDS COMMAND...
    local name=$1 limit=$2 begun=$SECONDS
    shift 2
    echo "=== $name"
    if timeout --kill-after=10 "$limit" "$@" 2>&1 | tee -a "$out/log.txt"; then
        echo "=== $name: done in $((SECONDS - begun)) s"
    else
        echo "=== $name: FAILED after $((SECONDS - begun)) s"
        failed+=("$name")
    fi
}

phases() {  # phases MODEL [OPTION...]
    "$python" -m bench.phases --device cuda --model "$1" --json "$out/phases-$1.json" --plot "$out/phases-$1.svg" "${@:2}"
}

diagnose() {  # diagnose MODEL [OPTION...]: vLLM's server, with random weights of that size
    local log=$out/server-$1.txt
    scratch=$(mktemp -d) server=
    trap '[ -z "$server" ] || { kill $server; wait $server; }; rm -rf "$scratch"' EXIT
    trap 'exit 1' TERM
    "$python" -m bench.sized_model "$1" "$scratch/$1" || return
    "$python" -m vllm.entrypoints.openai.api_server --model "$scratch/$1" --served-model-name "$1" --port "$port" \
        --max-model-len 8192 >"$log" 2>&1 &
    server=$!
    until curl -sf "http://127.0.0.1:$port/health"; do
        kill -0 $server || { tail -20 "$log"; return 1; }
        sleep 1
    done
    "$python" -c 'from chiasm.cli import main; main()' diagnose "http://127.0.0.1:$port" --yes \
        --json "$out/diagnose-$1.json" "${@:2}" &
    wait $!  # so that TERM is heard meanwhile
}
export -f phases diagnose
export out python port=8199

step card 20 nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm --format=csv
step transport 90 "$python" -m pytest -m gpu -W default -p no:cacheprovider tests/gpu/test_card_copies_on_gpu.py
step cluster 240 "$python" -m pytest -m gpu -W default -p no:cacheprovider --timeout=200 tests/gpu/test_cluster_on_gpu.py
step diagnose-7b 410 bash -c 'diagnose qwen2.5-vl-7b --minutes 3 --sizes 448x448,1008x1008 --itl-slo-ms 50'
step card-copies 30 "$python" -m bench.card_copies --json "$out/card-copies.json"
step phases-7b 110 bash -c 'phases qwen2.5-vl-7b'
step phases-3b 200 bash -c 'phases qwen2.5-vl-3b --compile'

if ((${#failed[@]})); then
    echo "failed: ${failed[*]}"
    exit 1
fi
echo "all done: $out"
