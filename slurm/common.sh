# Sourced by the sbatch files, which run in the kit's folder. It names the run's folder after the job, and runs a
# command that stops when Slurm asks for it and continues when Slurm starts the job again.

set -uo pipefail

STOPPED=75 # exit status of a command that a signal stopped (runtime/signals.py)
job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
task=$job${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID} # an array's number alone means every task
folder=runs/$SLURM_JOB_NAME-$job
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# Runs Python with the arguments, and ends the job with its status. A job that was stopped early goes back to the queue.
run_python() {
    local child status asked='' interrupted='' start=$((${SLURM_RESTART_COUNT:-0} + 1))
    echo "slurm: $SLURM_JOB_NAME $task, start $start on $SLURMD_NODENAME: $*"
    "${PYTHON:-python3}" "$@" &
    child=$!
    # Slurm sends USR1 to this shell alone, TERM to every process of a job that it ends
    trap 'asked=1 interrupted=1; kill -USR1 "$child" 2>/dev/null' USR1
    trap 'asked=1 interrupted=1' TERM
    while interrupted=''; wait "$child"; status=$?; [ "$interrupted" ]; do :; done
    # the signal kills a Python that has just begun; it may also kill a compiler that Python waits for
    if [ "$status" = $STOPPED ] || { [ "$asked" ] && [ "$status" != 0 ]; }; then
        # in any other state Slurm itself ends or requeues the job
        if [ "$(squeue --noheader --jobs="$task" --format=%T)" = RUNNING ]; then
            echo "slurm: $task goes back to the queue"
            scontrol requeue Incomplete "$task"
        fi
    fi
    exit "$status"
}

# train DEFAULT [RECIPE] [--field value]...: runs a recipe of train.py that writes to the job's folder.
train() {
    local recipe=$1 folders
    shift
    case ${1:-} in
    '' | -*) ;;
    *) recipe=$1 && shift ;;
    esac
    case $recipe in
    clip_fewshot) folders=(--parts "$folder/test_pkl" --runs "$folder") ;;
    clip_pretrain) folders=(--out "$folder/clip.pkl" --run "$folder") ;;
    *) folders=(--out "$folder") ;;
    esac
    run_python train.py "$recipe" "${folders[@]}" "$@"
}
