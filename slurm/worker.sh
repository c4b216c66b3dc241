#!/bin/bash
# Add workers to a run by hand, from a plain checkout:
#
#   run=results/NAME
#   sbatch $(.venv/bin/tandem worker-options $run) slurm/worker.sh $run                  one worker for that run
#   sbatch $(.venv/bin/tandem worker-options $run) --array=0-9 -t 30 slurm/worker.sh $run
#
# `tandem worker-options` prints what the run asks for its workers: GPU, cores, memory, time, partition. sbatch takes the
# last of two options. A worker whose allocation has less than it needs says so, and leaves.
#
# Without a run (or RUN=... in the environment) the worker joins the latest one.
# The latest run is looked for in the checkout's results/, or where TANDEM_RESULTS says (RESULTS=... of make).
# Without RUN it stays, when it is requeued, with the run that was the latest when it first started.
#
# A worker joins the run's master, leaves when the run is done or it has been idle for workers.idle_timeout_min, and
# before its time limit checkpoints, hands its evaluation back and requeues itself. Without Slurm, `bash
# slurm/worker.sh` is a worker on this machine. slurm/environment.sh says where Python is looked for.
#
# The signal goes to the job's step (not to this shell), at least so many seconds before the limit.
#SBATCH --job-name=tandem-worker
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --signal=USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

# A job runs a copy of this script, so its own path does not tell where the checkout is.
for folder in "${TANDEM_HOME:-}" "${SLURM_SUBMIT_DIR:-}" "${SLURM_SUBMIT_DIR:-.}/.." "$(dirname "$0")/.."; do
    if [[ -n $folder && -f $folder/slurm/environment.sh ]]; then
        # shellcheck source=slurm/environment.sh
        source "$folder/slurm/environment.sh"
        break
    fi
done
if ! declare -F absolute_run >/dev/null; then
    echo "worker.sh: no checkout of Tandem in ${SLURM_SUBMIT_DIR:-$PWD}: submit from it, or set TANDEM_HOME." >&2
    exit 1
fi

run=$(absolute_run "${1:-${RUN:-}}")
echo "worker.sh: a worker for ${run:-the latest run}, on $(hostname), with $TANDEM_PYTHON"
become_tandem run-worker ${run:+"$run"}
