# Sourced by the sbatch files, which run in the kit's folder: names the run's folder after the job,
# and runs a command that stops when Slurm asks and goes on when Slurm starts the job again.

set -uo pipefail

STOPPED=75 # status of a command that stopped because it was asked to (runtime/signals.py)
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
task=$job${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} # an array's number alone means every task
folder=runs/$SLURM_JOB_NAME-$job
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# Runs Python on the arguments and ends the job as it ends; a job that was asked to stop before its
# end goes back to the queue.
run_python() {
    local child status asked='' interrupted='' start=$((${SLURM_RESTART_COUNT:-0} + 1))
    echo "slurm: $SLURM_JOB_NAME $task, start $start on $SLURMD_NODENAME: $*"
    "${PYTHON:-python3}" "$@" &
    child=$!
    # Slurm sends USR1 to this shell alone, TERM to every process of a job that it ends
    trap 'asked=1 interrupted=1; kill -USR1 "$child" 2>/dev/null' USR1
    trap 'asked=1 interrupted=1' TERM
    while interrupted=''; wait "$child"; status=$?; [ "$interrupted" ]; do :; done
    # a Python that has just begun dies of the signal; so may a compiler that it waits for
    if [ "$status" = $STOPPED ] || { [ "$asked" ] && [ "$status" != 0 ]; }; then
        # in any other state Slurm is ending or requeueing the job by itself
        if [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then
            echo "slurm: $task goes back to the queue"
            scontrol requeue Incomplete "$task"
        fi
    fi
    exit "$status"
}

# train DEFAULT [RECIPE] [--field value]...: runs a recipe of train.py in the job's folder.
train() {
    local recipe=$1 places
    shift
    case ${1:-} in
    '' | -*) ;;
    *) recipe=$1 && shift ;;
    esac
    case $recipe in
    clip_fewshot) places=(--parts "$folder/test_pkl" --runs "$folder") ;;
    clip_pretrain) places=(--out "$folder/clip.pkl" --run "$folder") ;;
    *) places=(--out "$folder") ;;
    esac
    run_python train.py "$recipe" "${places[@]}" "$@"
}
