#!/usr/bin/env bash
# Trains under Slurm: GPUS=8 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: GPUS=8 bash tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}
# All tasks must agree on a port before any runs, and jobs may share a machine.
export MASTER_PORT="${MASTER_PORT:-$(( 20000 + RANDOM % 20000 ))}"
srun --partition="$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} python "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
