#!/bin/sh
# Gradient descent with momentum on Rosenbrock's function, in awk: any program in any language can be searched.
#
#   descend.sh STEP_SIZE MOMENTUM STEPS
#
# Tandem's side of it is three environment variables: a row of the learning curve is a line of JSON added to
# $TANDEM_METRICS, what is in the folder $TANDEM_CHECKPOINT is there again when training goes on, and $TANDEM_BUDGET says
# how far to go in all. Here the budget comes as an argument.
set -eu
state="$TANDEM_CHECKPOINT/state"
if [ -f "$state" ]; then
    read -r step x y vx vy <"$state"
else
    step=0 x=-1.2 y=1 vx=0 vy=0
fi
awk -v rate="$1" -v momentum="$2" -v steps="$3" -v step="$step" -v x="$x" -v y="$y" -v vx="$vx" -v vy="$vy" \
    -v rows="$TANDEM_METRICS" -v state="$state" '
function value() { return (1 - x) ^ 2 + 100 * (y - x ^ 2) ^ 2 }
function report() {
    printf "{\"step\": %d, \"distance\": %.9g}\n", step, value() < 1e6 ? value() : 1e6 >> rows
    fflush(rows)
}
BEGIN {
    while (step < steps) {
        gx = -2 * (1 - x) - 400 * x * (y - x ^ 2)
        gy = 200 * (y - x ^ 2)
        size = sqrt(gx * gx + gy * gy) + 1e-12
        vx = momentum * vx - rate * gx / size
        vy = momentum * vy - rate * gy / size
        x += vx; y += vy; step++
        if (step % 10 == 0) report()
    }
    report()
    printf "%d %.17g %.17g %.17g %.17g\n", step, x, y, vx, vy > state
}'
