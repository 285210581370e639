#!/usr/bin/env bash
# MONAI 1.6.1: `python -m monai.bundle run ... --net#bias false` builds the network with its biases. The command line hands
# "false" over as a text, and a text that is not empty is true to whatever takes a truth value: an ablation or a switch that
# is typed in JSON's own spelling is made with the part that it should leave out, and ends with exit code 0. The same word
# inside the JSON works, and so does False on the command line.
# Seen: 23 of BasicUNet's 23 convolutions have a bias by default and by `false`, `off` or `no`; 5 by `False` or `0`.
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 monai==1.6.1 fire==0.7.1 numpy==2.2.6 2>/dev/null
cd "$folder"
cat > train.json <<'JSON'
{
    "net": {"_target_": "BasicUNet", "spatial_dims": 2, "features": [4, 4, 4, 4, 4, 4], "bias": true},
    "convolutions": "$[m for m in @net.modules() if hasattr(m, 'transposed')]",
    "run": ["$print('biases', sum(m.bias is not None for m in @convolutions), 'of', len(@convolutions))"]
}
JSON
for word in default false off no False 0; do
    given=() && [ "$word" = default ] || given=("--net#bias" "$word")
    "$folder/venv/bin/python" -W ignore -m monai.bundle run --config_file train.json --logging_file False "${given[@]}" \
        2>/dev/null | sed -n "s/^biases/$word/p"
done | tee seen
for word in default false off no; do echo "$word 23 of 23"; done > expected
for word in False 0; do echo "$word 5 of 23"; done >> expected
diff expected seen
