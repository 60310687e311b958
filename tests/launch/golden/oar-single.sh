#!/bin/bash
#OAR -n fsq-cpu-k7f3q2
#OAR -l /nodes=1/core=16,walltime=04:00:00
#OAR -q standard
#OAR --project proj42
#OAR --checkpoint 120
#OAR --signal 12
#OAR -t idempotent
#OAR -O /shared/queue/fleet/cpu/logs/%jobid%.log
#OAR -E /shared/queue/fleet/cpu/logs/%jobid%.log
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
