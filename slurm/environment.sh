# shellcheck shell=bash
# Sourced by worker.sh and master.sh from the checkout: finds the Python environment and prepares the shell.
#
#   TANDEM_HOME      the checkout (set here, from where this file lies)
#   TANDEM_PYTHON    the Python to run: as it is set, else the checkout's .venv, else python3 as it is found
#   slurm/site.sh    if there is one, it is sourced first: the place for `module load` and `conda activate`

TANDEM_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export TANDEM_HOME

# A signal that comes while the shell gets ready would end it, and its job for good. It is kept for the program, which
# knows what to do: a preempted job is requeued, a cancelled one is not.
keep_signal() { export TANDEM_SIGNALS="${TANDEM_SIGNALS:-} $1"; }
trap 'keep_signal SIGHUP' HUP
trap 'keep_signal SIGTERM' TERM
trap 'keep_signal SIGUSR1' USR1
trap 'keep_signal SIGUSR2' USR2

if [[ -f $TANDEM_HOME/slurm/site.sh ]]; then
    # Not under our own options: modules and conda use unset variables, and return what they like.
    set +euo pipefail
    # shellcheck source=/dev/null
    source "$TANDEM_HOME/slurm/site.sh"
    set -euo pipefail
fi

if [[ -z ${TANDEM_PYTHON:-} ]]; then
    TANDEM_PYTHON=$TANDEM_HOME/.venv/bin/python
    [[ -x $TANDEM_PYTHON ]] || TANDEM_PYTHON=$(command -v python3)
fi
export TANDEM_PYTHON

# absolute_run RUN: a run given as a path relative to where one stood, as an absolute path; an id stays as it is.
absolute_run() {
    if [[ -n $1 && -d ${SLURM_SUBMIT_DIR:-$PWD}/$1 ]]; then
        (cd "${SLURM_SUBMIT_DIR:-$PWD}/$1" && pwd)
    else
        echo "$1"
    fi
}

# become_tandem COMMAND [ARGUMENT...]: `tandem COMMAND ...` in this process's place, as the job's step where there is one.
become_tandem() {
    cd "$TANDEM_HOME" || exit
    if [[ -n ${SLURM_JOB_ID:-} ]]; then
        # srun does not take over --cpus-per-task by itself since Slurm 22.05.
        exec srun --unbuffered --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
            "$TANDEM_PYTHON" -u -m pipeline.cli "$@"
    fi
    exec "$TANDEM_PYTHON" -u -m pipeline.cli "$@"
}
