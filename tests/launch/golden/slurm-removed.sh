#!/bin/bash
#SBATCH --job-name=fsq-cpu-k7f3q2
#SBATCH --comment=fsqueue:cpu:k7f3q2
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --partition=standard
#SBATCH --account=proj42
#SBATCH --signal=B:USR2@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=/shared/queue/fleet/cpu/logs/%j.log
#SBATCH --qos=long
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
