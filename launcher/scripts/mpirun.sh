#!/bin/sh
# Starts a training script on several ranks with plain mpirun, for places where `dist-train` itself is not wanted.
#
#   RANKS=4 launcher/scripts/mpirun.sh train.py --epochs 3
#   RANKS=8 MPIRUN="mpirun --host alpha:4,beta:4" launcher/scripts/mpirun.sh train.py
#
# `dist-train run -n 4 --dry-run train.py` prints the exact command for the MPI that is installed here.
set -eu

RANKS=${RANKS:-2}
PYTHON=${PYTHON:-python}
# The mpirun beside the interpreter belongs to the mpi4py of the same environment; a foreign one would start ranks
# which all believe they are alone.
BESIDE=$("$PYTHON" -c 'import os, sys; print(os.path.join(os.path.dirname(sys.executable), "mpirun"))')
if [ -z "${MPIRUN:-}" ] && [ -x "$BESIDE" ]; then
    MPIRUN=$BESIDE
fi

# BLAS reads its number of threads once, when it is loaded: it has to be there before Python starts.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"

# MPIRUN may hold options, so it is split into words on purpose.
# shellcheck disable=SC2086
exec ${MPIRUN:-mpirun} -n "$RANKS" "$PYTHON" "$@"
