#!/bin/bash
# Run the master of a run as a Slurm job by hand, for sites that end long processes on login nodes:
#
#   sbatch slurm/master.sh results/NAME                     (or RUN=results/NAME sbatch slurm/master.sh)
#   sbatch -p cpu -t 2-00:00:00 slurm/master.sh results/NAME
#
# It asks Slurm for the workers, so its node must be allowed to submit jobs. Before its time limit it requeues itself
# and goes on, perhaps on another node; workers find it there. `make submit-search MASTER=slurm` does all this.
#
# The signal goes to the job's step (not to this shell), at least so many seconds before the limit.
#SBATCH --job-name=tandem-master
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=1-00:00:00
#SBATCH --signal=USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

for folder in "${TANDEM_HOME:-}" "${SLURM_SUBMIT_DIR:-}" "${SLURM_SUBMIT_DIR:-.}/.." "$(dirname "$0")/.."; do
    if [[ -n $folder && -f $folder/slurm/environment.sh ]]; then
        # shellcheck source=slurm/environment.sh
        source "$folder/slurm/environment.sh"
        break
    fi
done
if ! declare -F absolute_run >/dev/null; then
    echo "master.sh: no checkout of Tandem in ${SLURM_SUBMIT_DIR:-$PWD}: submit from it, or set TANDEM_HOME." >&2
    exit 1
fi

run=$(absolute_run "${1:-${RUN:-}}")
if [[ -z $run ]]; then # the latest run may be another one when this job is requeued
    echo "master.sh: which run? sbatch slurm/master.sh results/NAME" >&2
    exit 1
fi
echo "master.sh: the master of $run, on $(hostname), with $TANDEM_PYTHON"
become_tandem run-master "$run"
