# Sourced by dist_train.sh and dist_test.sh: launch PROCESSES SCRIPT [arguments]
# When a process fails, torchrun ends the others and shows its error last.
launch() {
    local processes=$1
    shift
    # As torchrun sets it, but without its warning.
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
    if [ "${NNODES:-1}" -eq 1 ]; then
        # Standalone picks a free port, so that two jobs on one machine do not collide.
        python -m torch.distributed.run --standalone --nproc_per_node="$processes" "$@"
    else
        python -m torch.distributed.run --nnodes="$NNODES" \
            --node_rank="${NODE_RANK:?number of this machine, from 0}" \
            --master_addr="${MASTER_ADDR:?name of machine 0}" \
            --master_port="${MASTER_PORT:-29500}" --nproc_per_node="$processes" "$@"
    fi
}
