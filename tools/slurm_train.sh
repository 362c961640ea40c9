#!/usr/bin/env bash
# Trains under Slurm: GPUS=8 GPUS_PER_NODE=8 bash tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]
# or as a batch job, which is put into the queue again at its time limit and then resumes:
#   sbatch --partition=PARTITION --job-name=JOB --time=24:00:00 --ntasks=8 --ntasks-per-node=8 --gres=gpu:8 \
#       tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: GPUS=8 bash tools/slurm_train.sh PARTITION JOB CONFIG [options of train.py]" >&2; exit 2; }
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-${SLURM_NTASKS:-8}}
per_node=${GPUS_PER_NODE:-$(( gpus < 8 ? gpus : 8 ))}
# All tasks must agree on a port before any runs, and jobs may share a machine.
export MASTER_PORT="${MASTER_PORT:-$(( 20000 + RANDOM % 20000 ))}"
# A batch job runs a copy of this file elsewhere, in the folder in which it was submitted.
tools=$(dirname "$0")
[ -f "$tools/train.py" ] || tools=tools
# The last --resume counts, and a first checkpoint need not exist yet.
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || set -- "$@" --resume
status=0
srun --partition="$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    --signal=TERM@120 ${SRUN_ARGS:-} python "$tools/train.py" "$config" --launcher slurm "$@" || status=$?
# 143: told to stop by SIGTERM, and saved. scancel ends this script too, so that job is not put back.
if [ "$status" -eq 143 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
