#!/usr/bin/env bash
# Pre-trains on a Cloud TPU pod slice: asks for it, installs, runs on all workers, and resumes after preemption.
#
#   export NAME=dnabert2 PROJECT=my-project ZONE=us-east5-a TYPE=v5p-128 VERSION=v2-alpha-tpuv5
#   export MOUNT='10.0.0.2:/share /mnt/share'                      an NFS share, such as Filestore, and where it goes
#   export PACKAGE='/mnt/share/dnabert2_jax-0.1.0-py3-none-any.whl[tpu]'           what pip is to install
#   launch/tpu_pod.sh dnabert2_117m --corpus /mnt/share/corpus --output /mnt/share/run [--section.key value ...]
#
# What follows the script's name is what follows `dnabert2 pretrain`, which every worker runs; JAX finds the other
# workers by itself. Corpus and run lie on the share, which all workers see. SPOT=1 asks for capacity that may be
# taken away. When the slice is lost, another one is asked for; when a worker dies, the others stop too; either
# way the run goes on from its last checkpoint, at most MAX_RESTARTS times (50). Needs gcloud, and runs as long as
# the run does: keep it in tmux, or on a small machine that stays. The slice is deleted at the end, but not when
# you press Ctrl-C:
#
#   gcloud compute tpus queued-resources delete $NAME --project $PROJECT --zone $ZONE --force
#
# Exit status: 0 the run is finished; 2 the request is wrong, which no restart mends; 1 it was given up.
set -euo pipefail

: "${NAME:?}" "${PROJECT:?}" "${ZONE:?}" "${TYPE:?}" "${VERSION:?}" "${MOUNT:?}" "${PACKAGE:?}"
where=(--project "$PROJECT" --zone "$ZONE")
poll=${POLL_SECONDS:-30}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format 'value(state.state)' 2>/dev/null ||
    echo ABSENT
}

delete() {
  gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --force --quiet
}

obtain() {
  while true; do
    case $(state) in
      ACTIVE) return ;;
      ABSENT)
        gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id "$NAME" \
          --accelerator-type "$TYPE" --runtime-version "$VERSION" ${SPOT:+--spot} ;;
      FAILED | SUSPENDED) delete ;;
    esac
    sleep "$poll"
  done
}

on_all_workers() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker all --command "$1" 2>&1 | tee "$log"
}

read -r share folder <<<"$MOUNT"
install="set -e
mountpoint -q $folder || { sudo mkdir -p $folder; sudo mount -t nfs $share $folder; }
[ -x ~/dnabert2/bin/dnabert2 ] || {
  python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --python 3.12 ~/dnabert2
  python3 -m uv pip install --quiet --python ~/dnabert2/bin/python '$PACKAGE'
}"
# gcloud has one status for whatever goes wrong on a worker, so the command tells its own.
pretrain="~/dnabert2/bin/dnabert2 pretrain $(printf '%q ' "$@")
status=\$?; echo \"dnabert2 pretrain: status \$status\"; exit \$status"

for ((attempt = 0; attempt <= ${MAX_RESTARTS:-50}; attempt++)); do
  obtain
  if on_all_workers "$install" && on_all_workers "$pretrain"; then
    delete
    exit 0
  fi
  if grep -q 'dnabert2 pretrain: status 2$' "$log"; then
    delete
    exit 2
  fi
  echo "tpu_pod.sh: the run was cut off; restart $((attempt + 1))" >&2
  sleep "$poll"
done
echo "tpu_pod.sh: gave up after ${MAX_RESTARTS:-50} restarts; the slice $NAME is still there" >&2
exit 1
