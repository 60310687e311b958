#!/bin/bash
#flux: --job-name=fsq-cpu-k7f3q2
#flux: --cc=1-4
#flux: --nodes=1
#flux: --ntasks=1
#flux: --cores-per-task=16
#flux: --time-limit=14400s
#flux: --signal=USR2@2m
#flux: --queue=standard
#flux: --bank=proj42
#flux: --output=/shared/queue/fleet/cpu/logs/{{id}}.log
export FSQUEUE_JOB_UNTIL=$(( $(date +%s) + 14400 ))
FSQUEUE_JOB_NODE=$(uname -n) && export FSQUEUE_JOB_NODE
export FSQUEUE_FLEET=cpu
export FSQUEUE_FLEET_TOKEN=k7f3q2
export FSQUEUE__ROOT=/shared/queue
export FSQUEUE__STOP_GRACE=25
export FSQUEUE__GROUP='lab 7'
export OMP_NUM_THREADS=1
cd '/shared/my project' || exit 1
exec /shared/venv/bin/python -m fsqueue worker tasks:app --runner process --concurrency cores --queue default --queue large --resource mem=65536M --time-limit auto --idle-timeout 5m --gpus auto </dev/null
