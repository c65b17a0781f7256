#!/usr/bin/env bash
# Everything that fsearch can show on a GPU, one part after another, in one folder. docs/gpu.md says what is in it.
#
#   tests/gpu/run_all.sh [--device cuda:0] [--quick] [--out FOLDER] [--only "PART ..."] [--peer NAME=MODULE:FUNCTION]...
#
# It needs torch with CUDA, nvcc, a C++ compiler and fsearch's own requirements. A part that fails stops no other;
# the exit code is 1 if one did, or if a part of a run on a GPU was skipped, and the last lines name them.
# --device cpu proves this script where there is no GPU: what needs one is skipped, and said to be.
set -u -o pipefail

device=cuda:0 quick='' out='' only='' peers=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick; shift ;;
    --device | --out | --only | --peer)
      [ $# -gt 1 ] || { echo "run_all.sh: $1 needs a value" >&2; exit 2; }
      case $1 in
        --device) device=$2 ;;
        --out) out=$2 ;;
        --only) only=" $2 " ;;
        --peer) peers+=(--peer "$2") ;;
      esac
      shift 2 ;;
    *) echo "run_all.sh: unknown argument $1; it takes --device, --quick, --out, --only and --peer" >&2; exit 2 ;;
  esac
done

known=' machine build tests memcheck racecheck tune kernel step fla_tests fla startup compare daemon search busy '
for name in $only; do
  case $known in *" $name "*) ;; *) echo "run_all.sh: no part is called $name; there are$known" >&2; exit 2 ;; esac
done
[ -n "$out" ] || out="gpu-$(date -u +%Y%m%d-%H%M%S)"
mkdir -p "$out/logs" || exit 2
out=$(cd "$out" && pwd)
[ ! -e "$out/parts.tsv" ] || { echo "run_all.sh: $out has results already; give another --out" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

python=${PYTHON:-python3}
on_gpu=1
[ "$device" != cpu ] || on_gpu=''
small=''
[ -z "$quick" ] && [ -n "$on_gpu" ] || small=1
state=$out/state
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$state/cache"
if [ -n "${FSEARCH_KERNEL_CACHE:-}" ]; then
  ln -s "$FSEARCH_KERNEL_CACHE" "$state/cache/kernel"
else
  export FSEARCH_KERNEL_CACHE=$state/cache/kernel
fi

say() { printf '%s %-10s %s\n' "$(date +%H:%M:%S)" "$1" "$2"; }

record() { # PART OUTCOME EXIT_CODE SECONDS LIMIT WHY
  (IFS=$'\t'; printf '%s\n' "$*") >> "$out/parts.tsv"
}

skip() { record "$1" skipped '' 0 0 "$2"; say "$1" "skipped: $2"; }

wanted() {
  [ -z "$only" ] && return 0
  case $only in *" $1 "*) return 0 ;; esac
  skip "$1" 'not asked for'
  return 1
}

child=''
trap '[ -z "$child" ] || { kill "$child"; wait "$child"; }; echo "run_all.sh: stopped" >&2; exit 130' INT TERM

part() { # PART LIMIT_S COMMAND...: its output goes into a log, its outcome into parts.tsv
  local name=$1 limit=$2 began=$SECONDS code outcome
  shift 2
  say "$name" "begins, at most $limit s"
  timeout --kill-after=30 "$limit" "$@" > "$out/logs/$name.log" 2>&1 < /dev/null &
  child=$!
  wait "$child"
  code=$?
  child=''
  case $code in 0) outcome=passed ;; 124 | 137) outcome='timed out' ;; *) outcome=failed ;; esac
  [ "$code" -eq 0 ] || tail -n 3 "$out/logs/$name.log" | sed 's/^/           | /'
  record "$name" "$outcome" "$code" $((SECONDS - began)) "$limit" ''
  say "$name" "exit code $code after $((SECONDS - began)) s" # whether it has passed is for the summary to say
}

fsearch=("$python" -m fsearch)
step=("${fsearch[@]}" bench step --device "$device" --state "$state")
if [ -z "$small" ]; then
  step+=(--shape 0.1b --batch 8 --tokens 2048)
elif [ -n "$on_gpu" ]; then
  step+=(--shape small)
else
  step+=(--shape demo)
fi

plan() { # PART LIMIT_S: runs the plan that is called as the part; leaves the plan and what came of it
  local file=tests/gpu/$1.yaml
  [ -z "$small" ] || file=tests/gpu/$1_small.yaml
  cp "$file" "$out/$1.yaml"
  part "$1" "$2" "${fsearch[@]}" run "$file" --device "$device" --state "$state"
  "${fsearch[@]}" export "$file" --state "$state" > "$out/$1.jsonl" 2> "$out/logs/$1-export.log"
  "${fsearch[@]}" report "$file" --state "$state" > "$out/$1.txt" 2>> "$out/logs/$1-export.log"
}

sanitizer=$(command -v compute-sanitizer ||
  PATH=/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer command -v compute-sanitizer || true)
sanitize() { # PART
  if [ -z "$on_gpu" ]; then
    skip "$1" 'it needs a GPU'
  elif [ -z "$sanitizer" ]; then
    skip "$1" 'compute-sanitizer is not installed'
  elif ! library=$(tail -n 1 "$out/logs/build.log" 2> /dev/null) || [ ! -f "$library" ]; then
    skip "$1" 'the part build made no library'
  else
    part "$1" 900 "$sanitizer" --tool "$1" --error-exitcode 9 "$python" -m tests.gpu.small_shapes "$library"
  fi
}

if wanted machine; then
  part machine 120 "$python" -m tests.gpu.machine "$device"
  ! grep -q '^{' "$out/logs/machine.log" || cp "$out/logs/machine.log" "$out/machine.json"
  [ -z "$on_gpu" ] || nvidia-smi > "$out/logs/nvidia-smi.log" 2>&1
fi
if wanted build; then
  part build 1200 "$python" -m tests.gpu.build_kernel "$FSEARCH_KERNEL_CACHE" "$device"
fi
if wanted tests; then # the sanitizer and flash-linear-attention have parts of their own
  part tests 1800 "$python" -m pytest -q -p no:cacheprovider -rs tests/gpu -k 'not compute_sanitizer and not fla_step' \
    --junitxml "$out/tests.xml"
fi
if wanted memcheck; then sanitize memcheck; fi
if wanted racecheck; then sanitize racecheck; fi
if wanted tune; then # before the others, which then train with what was chosen
  if [ -n "$on_gpu" ]; then
    part tune 900 "${fsearch[@]}" bench kernel --quick --tune --device "$device" --state "$state" --json "$out/tune.json"
  else
    skip tune 'a CPU has one kernel'
  fi
fi
if wanted kernel; then
  part kernel 1800 "${fsearch[@]}" bench kernel --device "$device" $quick --state "$state" --json "$out/kernel.json" \
    ${peers[@]+"${peers[@]}"}
fi
if wanted step; then
  part step 1200 "${step[@]}" --against plain --json "$out/step.json"
fi
with_fla() { # PART LIMIT_S COMMAND...
  if [ -z "$on_gpu" ]; then
    skip "$1" 'it needs a GPU'
  elif ! "$python" -c 'import importlib.metadata as m; m.version("flash-linear-attention")' 2> /dev/null; then
    skip "$1" 'flash-linear-attention is not installed'
  else # apart from the others: the first call of each of its kernels tries many forms of it
    part "$@"
  fi
}
if wanted fla_tests; then
  with_fla fla_tests 1200 "$python" -m pytest -q -p no:cacheprovider -rs tests/gpu/test_fla_step.py
fi
if wanted fla; then
  with_fla fla 1200 "${step[@]}" --precision bf16 --against fla --json "$out/fla.json"
fi
if wanted startup; then
  part startup 600 "${fsearch[@]}" bench startup $quick --state "$state" --json "$out/startup.json"
fi
if wanted compare; then # with two short attempts: processes train on the CPU, whatever the device
  part compare 600 "${fsearch[@]}" bench search --quick --against processes --state "$state" --json "$out/compare.json"
fi
if wanted daemon; then
  part daemon 900 "${fsearch[@]}" bench daemon --state "$state" --json "$out/daemon.json"
fi
if wanted search; then plan search 3600; fi
if wanted busy; then plan busy 2400; fi

"$python" -m tests.gpu.summary "$out" "$device"
