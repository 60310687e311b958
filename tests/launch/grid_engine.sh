#!/bin/bash
# A real Grid Engine of one host on this machine, for tests/launch/test_grid_engine.py.
#
#   grid_engine.sh up      start it, with a queue all.q of 8 slots and a parallel environment smp
#   grid_engine.sh down    end it, and all its jobs
#
# It needs root and Debian's packages gridengine-master, -exec and -client, whose folders are
# compiled in: a machine has one of these at a time. The settings make it quick: it schedules every
# second, and a job that is deleted has five seconds between SIGUSR2 and SIGKILL.
set -euo pipefail
export SGE_ROOT=/var/lib/gridengine SGE_CELL=default
common=$SGE_ROOT/$SGE_CELL/common
spool=/var/spool/gridengine

end() {
  timeout 10 qdel -f -u '*' >/dev/null 2>&1 || true
  pkill -KILL -x sge_execd || true
  pkill -KILL -x sge_qmaster || true
}

# until_true SECONDS COMMAND...: run it until it succeeds.
until_true() {
  local deadline=$((SECONDS + $1))
  until "${@:2}" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || {
      echo "not within $1 s: ${*:2}" >&2
      tail -n 5 "$spool"/qmaster/messages >&2 || true
      exit 1
    }
    sleep 0.2
  done
}

up() {
  end
  local folder
  folder=$(mktemp -d)
  rm -rf "$spool"/qmaster "$spool"/spooldb "$spool"/execd "$common"
  mkdir -p "$spool"/{qmaster/job_scripts,spooldb,execd} "$common"
  cp /usr/share/gridengine/default-bootstrap "$common"/bootstrap
  # Whatever 127.0.0.1 and this host are called: one name for both.
  echo localhost >"$common"/act_qmaster
  echo "localhost $(hostname) $(getent hosts 127.0.0.1 | awk '{$1 = ""; print}')" \
    >"$common"/host_aliases
  chown -R sgeadmin:sgeadmin "$spool" "$SGE_ROOT"
  su -s /bin/sh -c "/usr/share/gridengine/scripts/init_cluster $SGE_ROOT $SGE_CELL \
    $spool/spooldb sgeadmin" sgeadmin >/dev/null
  sge_qmaster
  until_true 30 qconf -ssconf
  until_true 30 qconf -as localhost
  cd "$folder"
  qconf -sconf | sed -e '/^#/d' -e 's/^min_uid.*/min_uid 0/' -e 's/^min_gid.*/min_gid 0/' >global
  qconf -Mconf global
  qconf -ssconf | sed -e 's/^schedule_interval.*/schedule_interval 0:0:1/' \
    -e 's/^flush_\(submit\|finish\)_sec.*/flush_\1_sec 1/' \
    -e 's/^job_load_adjustments.*/job_load_adjustments NONE/' >scheduler
  qconf -Msconf scheduler
  {
    echo "hostname localhost"
    for name in load_scaling complex_values user_lists xuser_lists projects xprojects \
      usage_scaling report_variables; do echo "$name NONE"; done
  } >host
  qconf -Ae host
  {
    printf '%s\n' "pe_name smp" "slots 999" "allocation_rule \$pe_slots" "control_slaves FALSE" \
      "job_is_first_task TRUE" "urgency_slots min" "accounting_summary FALSE"
    for name in user_lists xuser_lists start_proc_args stop_proc_args qsort_args; do
      echo "$name NONE"
    done
  } >environment
  qconf -Ap environment
  qconf -sq | sed -e 's/^qname.*/qname all.q/' -e 's/^hostlist.*/hostlist localhost/' \
    -e 's/^load_thresholds.*/load_thresholds NONE/' -e 's/^pe_list.*/pe_list smp/' \
    -e 's/^slots.*/slots 8/' -e 's|^shell  *.*|shell /bin/bash|' \
    -e 's/^shell_start_mode.*/shell_start_mode unix_behavior/' \
    -e 's/^notify.*/notify 00:00:05/' >queue
  qconf -Aq queue
  sge_execd
  until_true 60 sh -c 'qhost | grep -q "^localhost .*[0-9]"'
  cd / && rm -rf "$folder"
}

case "${1-}" in
  up) up >&2 ;;
  down) end ;;
  *)
    echo "usage: grid_engine.sh up|down" >&2
    exit 2
    ;;
esac
