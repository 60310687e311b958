#!/bin/bash
#$ -S /bin/bash
#$ -N fsq-cpu-k7f3q2
#$ -pe smp 16
#$ -l h_vmem=4096M
#$ -l s_rt=03:58:00
#$ -l h_rt=04:00:00
#$ -q standard
#$ -P proj42
#$ -notify
#$ -r y
#$ -j y
#$ -o /shared/queue/fleet/cpu/logs/$JOB_ID.log
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
