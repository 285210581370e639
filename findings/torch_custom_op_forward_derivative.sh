#!/usr/bin/env bash
# torch 2.13.0: an operator made by torch.library.custom_op with register_autograd has a right backward pass, yet
# torch.func.jvp of it gives a tangent of zeros and forward-mode dual numbers lose theirs: no error, no warning.
# torch.func.grad of the same operator does raise. Whoever differentiates forward (Hessian-vector products, Laplace
# approximations, sensitivity maps) through such a scan or kernel gets 0 for a derivative that is 3.
# Seen: jvp tangent [0.0, 0.0], dual tangent None, backward gradient [3.0, 3.0], torch.func.grad RuntimeError.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.2.6 2>/dev/null
"$folder/venv/bin/python" - <<'PY'
import sys
import torch
import torch.autograd.forward_ad as forward


@torch.library.custom_op("finding::triple", mutates_args=())
def triple(x: torch.Tensor) -> torch.Tensor:
    return x * 3


triple.register_fake(lambda x: torch.empty_like(x))
triple.register_autograd(lambda ctx, grad: grad * 3)
x = torch.ones(2, requires_grad=True)
(backward,) = torch.autograd.grad(triple(x).sum(), x)
tangent = torch.func.jvp(triple, (torch.ones(2),), (torch.ones(2),))[1]
with forward.dual_level():
    dual = forward.unpack_dual(triple(forward.make_dual(torch.ones(2), torch.ones(2)))).tangent
try:
    torch.func.grad(lambda t: triple(t).sum())(torch.ones(2))
    told = "a value"
except RuntimeError:
    told = "RuntimeError"
seen = (tangent.tolist(), dual, backward.tolist(), told)
print(torch.__version__.split("+")[0], "jvp", seen[0], "dual", seen[1], "backward", seen[2], "torch.func.grad", seen[3])
sys.exit(seen != ([0.0, 0.0], None, [3.0, 3.0], "RuntimeError"))
PY
