#!/usr/bin/env bash
# sbatch configs/cluster/slurm.sh configs/your_data.yaml runs/first
#
# One process a GPU, the model sharded over all of them. Partition, account and environment are your cluster's: add them.
# Further words go to lmmcl fit. Submitted again, it goes on where the run was stopped; so it does by itself when its
# time is over (Slurm warns this shell, the step is saved, the job waits for its turn again) or a node fails.
#SBATCH --job-name=lmmcl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: sbatch $0 CONFIG RUN [--KEY VALUE ...]" >&2
    exit 2
fi
config=$1 run=$2
shift 2

resume=()
if [ -e "$run/config.json" ]; then
    resume=(--ckpt_path last)
fi
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun does not take it from the job
export OMP_NUM_THREADS=$SRUN_CPUS_PER_TASK
again=
# srun hands it on to every process; SIGTERM would make it kill them
trap 'again=1; kill -USR1 "$!"' USR1
srun --kill-on-bad-exit=1 lmmcl fit \
    --config "$config" --run "$run" --trainer.strategy fsdp2 \
    --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "${resume[@]}" "$@" &
step=$!

code=0
wait "$step" || code=$?
while kill -0 "$step" 2>/dev/null; do # a signal ends the wait, not the step
    code=0
    wait "$step" || code=$?
done
if [ -n "$again" ] && [ "$code" -eq 143 ]; then # stopped as asked, all is saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
