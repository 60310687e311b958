#!/bin/bash
#BSUB -J "fsq-cpu-k7f3q2"
#BSUB -n 16
#BSUB -R "span[hosts=1] rusage[mem=65536]"
#BSUB -W 240
#BSUB -q standard
#BSUB -P proj42
#BSUB -wa USR2
#BSUB -wt 2
#BSUB -r
#BSUB -oo /shared/queue/fleet/cpu/logs/%J.log
export FSQUEUE_JOB_UNTIL=$(( $(date +%s) + 14400 ))
FSQUEUE_JOB_NODE=$(uname -n) && export FSQUEUE_JOB_NODE
export FSQUEUE_FLEET=cpu
export FSQUEUE_FLEET_TOKEN=k7f3q2
export FSQUEUE__ROOT=/shared/queue
export FSQUEUE__STOP_GRACE=25
export FSQUEUE__GROUP='lab 7'
export OMP_NUM_THREADS=1
cd '/shared/my project' || exit 1
module load python/3.11
source "$HOME/venv/bin/activate"
exec apptainer exec "my image.sif" python3 -m fsqueue worker tasks:app --runner process --concurrency cores --queue default --resource mem=65536M --time-limit auto --idle-timeout 5m --gpus auto </dev/null
