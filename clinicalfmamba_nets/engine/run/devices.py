"""The device that a user names."""

from __future__ import annotations

import torch

from clinicalfmamba_nets.errors import input_error


def named_device(device: str | torch.device) -> torch.device:
    """Return a device of this machine.

    Raises:
        FusionInputError: torch does not know the name, the machine has no such device, or it computes nothing.
    """
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("a device without values")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise input_error(
            f"device {str(device)!r}", "a device of this machine", reason, "leave it out or name cpu"
        ) from error
    return found
