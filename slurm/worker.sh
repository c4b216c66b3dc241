#!/bin/bash
# Add workers to a run by hand, from a plain checkout:
#
#   sbatch slurm/worker.sh                                  one worker for the latest run
#   sbatch --array=0-9 slurm/worker.sh results/NAME         ten workers for that run (or RUN=results/NAME sbatch ...)
#   sbatch -p debug -t 30 --gres=gpu:a100:1 slurm/worker.sh sbatch's own options overrule the lines below
#
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
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
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
