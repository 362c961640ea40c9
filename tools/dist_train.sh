#!/usr/bin/env bash
# Trains on the GPUs of this machine: bash tools/dist_train.sh CONFIG GPUS [options of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on each.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash tools/dist_train.sh CONFIG GPUS [options of train.py]" >&2; exit 2; }
config=$1 gpus=$2
shift 2
source "$(dirname "$0")/launch.sh"
launch "$gpus" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
