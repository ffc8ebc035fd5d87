#!/bin/sh
# What a container starts with: the kernels that the image brings go where Numba may add others, then the command runs.
cp -Rpn /opt/varstar/numba "$NUMBA_CACHE_DIR" 2>/dev/null || true
exec "$@"
