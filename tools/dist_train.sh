#!/usr/bin/env bash
# Trains on the GPUs of this machine, or in as many processes on its CPU:
#   bash tools/dist_train.sh CONFIG GPUS [options of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and perhaps MASTER_PORT (29500) on each.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: bash tools/dist_train.sh CONFIG GPUS [options of train.py]" >&2; exit 2; }
config=$1 gpus=$2
shift 2
source "$(dirname "$0")/launch.sh"
launch "$gpus" "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
