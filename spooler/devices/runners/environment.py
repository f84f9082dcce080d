"""What a handler's process has in its environment: what programs need, and what its device says.

The daemon's own environment may hold its key, its settings and the way to its service manager, and
whatever else the lab's administrator has put there. None of that is a handler's affair, so what is
handed on is on a list.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Variables that are handed on.
HANDED_ON = frozenset(
    """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TZDIR TERM TMPDIR TMP TEMP HOSTNAME
    VIRTUAL_ENV LD_LIBRARY_PATH LD_PRELOAD DISPLAY WAYLAND_DISPLAY XAUTHORITY
    DBUS_SESSION_BUS_ADDRESS NO_COLOR SSL_CERT_FILE SSL_CERT_DIR no_proxy NO_PROXY
    """.split()  # noqa: SIM905 - read as a list of words
)
#: The same for families: locale, Python, and the libraries that laboratories compute with.
FAMILIES = (
    *("LC_", "PYTHON", "XDG_", "CONDA_", "OMP_", "OPENBLAS_", "MKL_", "BLIS_", "NUMEXPR_"),
    *("NUMBA_", "CUDA_", "NVIDIA_", "HSA_", "ROCR_", "HDF5_", "MPL", "QT_", "VXI", "PYVISA_"),
)


def handed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a handler's process gets of the daemon's environment."""
    return {
        name: text
        for name, text in environ.items()
        if name in HANDED_ON or name.startswith(FAMILIES)
    }
