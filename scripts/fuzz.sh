#!/bin/sh
# Fuzzes the decoders of what comes from outside: runs each test whose name begins with `fuzz_` under
# libFuzzer, which comes with the crate bolero and is guided by coverage. Prints for each how many inputs it
# took, and how many branches (edges) they reached. Fails if one found an input for which its property does
# not hold; the input is then in target/fuzz/findings, and an example that has it belongs into the test.
# The flags are those of cargo-bolero, which would build the integration tests, too.
#   scripts/fuzz.sh [SECONDS [PART OF A NAME]]
set -eu
cd "$(dirname "$0")/.."
. scripts/installation.sh

seconds=${1:-60}
only=${2:-}
has c++ || apt_install g++
mkdir -p target/fuzz/findings

export RUSTFLAGS="--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target, the flags are not used for build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
build=target/fuzz/build.log
cargo test --no-run --lib --all-features --profile fuzz --target "$host" --target-dir target/fuzz \
  --package cache-aside --package custom-handler --package cache-aside-handler 2>&1 | tee "$build"

status=0
for program in $(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$build"); do
  for test in $("$program" --list --format terse | sed -n 's/: test$//p' | grep '::fuzz_' | grep -e "$only"); do
    name=$(echo "$test" | tr ':' '-')
    corpus=target/fuzz/corpus/$name
    log=target/fuzz/$name.log
    mkdir -p "$corpus"
    export FUZZ_CORPUS="$corpus"
    export BOLERO_LIBFUZZER_ARGS="$corpus -max_total_time=$seconds -max_len=1000 -timeout=10 \
-print_final_stats=1 -artifact_prefix=target/fuzz/findings/$name-"
    echo "$test"
    if "$program" --exact "$test" --nocapture --test-threads 1 >"$log" 2>&1; then
      sed -n 's/^#\([0-9]*\).*DONE *cov: \([0-9]*\).*corp: \([0-9]*\).*/  \1 inputs, \2 edges, \3 kept/p' "$log"
    else
      status=1
      echo "  found something: see $log"
      grep -B 2 -A 12 'test failed\|ERROR: libFuzzer' "$log" | head -40
    fi
  done
done
exit "$status"
