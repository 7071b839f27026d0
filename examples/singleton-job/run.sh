#!/usr/bin/env bash
# A job that several hosts start at the same time, from cron say, and that is to
# be done once a day. Here three shells stand for three hosts.
#
# The lock makes looking ("was it done today?") and doing one step; that it was
# done is remembered where the work is. Whoever dies in the middle gives the lock
# back, and the next one finds the work not done.
#
#   examples/singleton-job/run.sh
#   examples/singleton-job/run.sh --without-lock    # and so it fails
set -euo pipefail

raftlock=${RAFTLOCK:-$(dirname "$0")/../../bin/raftlock}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# What cron has in its line: raftlock run NAME -- COMMAND.
locked() { "$raftlock" run --wait 30s examples/nightly-report -- "$@"; }
if [[ "${1:-}" == --without-lock ]]; then
	locked() { "$@"; }
fi

cat >"$dir/job.sh" <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
host=$1 dir=$2
if [[ -e "$dir/done" ]]; then
	echo "host $host: done already"
	exit 0
fi
sleep 1 # the work
echo "host $host" >>"$dir/log"
touch "$dir/done"
echo "host $host: did it, with token ${RAFTLOCK_TOKEN:-none}"
JOB
chmod +x "$dir/job.sh"

jobs=()
for host in 1 2 3; do
	locked "$dir/job.sh" "$host" "$dir" &
	jobs+=($!)
done
for job in "${jobs[@]}"; do
	wait "$job"
done

times=$(wc -l <"$dir/log")
if ((times != 1)); then
	echo "FAILED: the job was done $times times" >&2
	exit 1
fi
echo "ok: the job was done once"
