#!/usr/bin/env bash
# Evaluates on the GPUs of this machine, or in as many processes on its CPU:
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and perhaps MASTER_PORT (29500) on each.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of test.py]" >&2; exit 2; }
config=$1 checkpoint=$2 gpus=$3
shift 3
source "$(dirname "$0")/launch.sh"
launch "$gpus" "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
