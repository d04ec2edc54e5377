#!/usr/bin/env bash
# Fills in jobset.yaml and applies it.
#
#   launch/kubernetes.sh IMAGE CLAIM dnabert2_117m --corpus /data/corpus --output /data/run [--section.key value ...]
#
# NODES=4 and GPUS=8 (per node) change its two nodes of eight GPUs. DRY_RUN=1 prints what would be applied.
#
#   kubectl get jobset dnabert2                                               how it goes
#   kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=dnabert2 --prefix       what the processes say
#   kubectl delete jobset dnabert2                                            ends it; the run is saved first
set -euo pipefail

if (( $# < 3 )); then
  echo "usage: launch/kubernetes.sh IMAGE CLAIM CONFIG --corpus DIR --output RUN [--section.key value ...]" >&2
  exit 2
fi
image=$1 claim=$2
shift 2
# JSON is YAML: each word in quotes, with backslashes and quotes escaped.
words=()
for word in "$@"; do
  word=${word//\\/\\\\}
  words+=("\"${word//\"/\\\"}\"")
done
arguments="[$(IFS=,; echo "${words[*]}")]"

filled=$(<"$(dirname "$0")/jobset.yaml")
# Quoted, as an & in a replacement would otherwise stand for what is replaced.
filled=${filled//image: IMAGE/"image: $image"}
filled=${filled//claimName: CLAIM/"claimName: $claim"}
filled=${filled//args: ARGUMENTS/"args: $arguments"}
filled=${filled//parallelism: 2/parallelism: ${NODES:-2}}
filled=${filled//completions: 2/completions: ${NODES:-2}}
filled=${filled//value: \"2\"/value: \"${NODES:-2}\"}
filled=${filled//gpu: 8/gpu: ${GPUS:-8}}
if [[ -n ${DRY_RUN:-} ]]; then
  printf '%s\n' "$filled"
else
  kubectl apply -f - <<<"$filled"
fi
