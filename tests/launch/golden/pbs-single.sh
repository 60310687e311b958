#!/bin/bash
#PBS -N fsq-cpu-k7f3q2
#PBS -l select=1:ncpus=16:mem=65536mb
#PBS -l walltime=04:00:00
#PBS -q standard
#PBS -A proj42
#PBS -j oe
#PBS -o /shared/queue/fleet/cpu/logs/
#PBS -r y
export FSQUEUE_JOB_UNTIL=$(( $(date +%s) + 14400 ))
FSQUEUE_JOB_NODE=$(uname -n) && export FSQUEUE_JOB_NODE
export FSQUEUE_FLEET=cpu
export FSQUEUE_FLEET_TOKEN=k7f3q2
export FSQUEUE__ROOT=/shared/queue
export FSQUEUE__STOP_GRACE=25
export FSQUEUE__GROUP='lab 7'
export OMP_NUM_THREADS=1
cd '/shared/my project' || exit 1
exec /shared/venv/bin/python -m fsqueue worker tasks:app --runner process --concurrency cores --queue default --resource mem=65536M --time-limit auto --idle-timeout 5m --gpus auto </dev/null
