# Sourced by dist_train.sh and dist_test.sh: launch PROCESSES SCRIPT [arguments]
launch() {
    local processes=$1
    shift
    if [ "${NNODES:-1}" -eq 1 ]; then
        # Standalone picks a free port, so that two jobs on one machine do not collide.
        python -m torch.distributed.run --standalone --nproc_per_node="$processes" "$@"
    else
        python -m torch.distributed.run --nnodes="$NNODES" --node_rank="${NODE_RANK:?}" \
            --master_addr="${MASTER_ADDR:?}" --master_port="${MASTER_PORT:-29500}" \
            --nproc_per_node="$processes" "$@"
    fi
}
