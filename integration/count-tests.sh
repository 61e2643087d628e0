#!/bin/sh
# Sums up what `cargo test` printed: the last line of `make test`. A test that did not run is a failure.
awk '/^test result:/ {
       for (i = 2; i <= NF; i++) {
         if ($i == "passed;") passed += $(i - 1)
         if ($i == "failed;") failed += $(i - 1)
         if ($i == "ignored;") ignored += $(i - 1)
       }
     }
     /^test .* \.\.\. FAILED$/ {names = names "\n  " $2}
     END {
       printf "\n%d tests passed, %d failed, %d skipped%s\n", passed, failed, ignored, names
       exit !(passed > 0 && failed == 0 && ignored == 0)
     }' "$1"
