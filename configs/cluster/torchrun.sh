#!/usr/bin/env bash
# bash configs/cluster/torchrun.sh configs/your_data.yaml runs/first
#
# All GPUs of this machine, the model sharded over them. Further words go to lmmcl fit, and override what stands here:
# --trainer.strategy ddp. Run again, it goes on where the run was stopped.
#
# Several machines: the same line on each, from one folder that all of them see, with NODES and the first one's name:
#   NODES=2 HEAD=node1 bash configs/cluster/torchrun.sh configs/your_data.yaml runs/first
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: [NODES=2 HEAD=node1] [PROCESSES=8] bash $0 CONFIG RUN [--KEY VALUE ...]" >&2
    exit 2
fi
config=$1 run=${2%/} # without the slash that completion adds: its last part names the meeting
shift 2

nodes=${NODES:-1}
processes=${PROCESSES:-$(nvidia-smi --list-gpus | wc -l)} # on each machine
meet=(--standalone)
if [ "$nodes" -gt 1 ]; then
    meet=(--nnodes "$nodes" --rdzv-backend c10d --rdzv-id "${run##*/}" --rdzv-endpoint "${HEAD:?the first machine}:${PORT:-29500}")
fi
resume=()
if [ -e "$run/config.json" ]; then
    resume=(--ckpt_path last)
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / processes > 0 ? $(nproc) / processes : 1))}
exec python -m torch.distributed.run "${meet[@]}" --nproc-per-node "$processes" -m -- lmmcl fit \
    --config "$config" --run "$run" --trainer.strategy fsdp2 \
    --trainer.num_nodes "$nodes" --trainer.devices "$processes" "${resume[@]}" "$@"
