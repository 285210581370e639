"""The operators as ONNX functions: what runs where ONNX Runtime has not been given the operators' library.

A function in a model has the name of an operator; a session that knows the operator takes it, any other one the
function. The scan is ONNX's own loop over the tokens (Scan), several times slower than the operator.
"""

from __future__ import annotations

from typing import Any

DOMAIN = "clinicalfmamba"
TAPS = 4  # of the sequence convolution, in every network of this project
CONVOLUTIONS = {"conv3x3": 2, "conv3x3x3": 3}  # of maps, and the sizes of their images

_CONV = """
permuted_conv1d_silu (x, weight, bias, x_proj, order) => (u, projected)
{
  outer = Shape <start: int = 0, end: int = 2> (x)
  inner = Shape <start: int = 3> (x)
  both = Shape (order)
  all = Constant <value_ints: ints = [-1]> ()
  numbers = Reshape (order, all)
  gathered = Gather <axis: int = 2> (x, numbers)
  shape = Concat <axis: int = 0> (outer, both, inner)
  apart = Reshape <allowzero: int = 1> (gathered, shape)
  turned = Transpose <perm: ints = [0, 2, 1, 3, 4]> (apart)
  widths = Constant <value_ints: ints = [0, 0, 0, %(pad)d, 0, 0, 0, 0, 0, 0]> ()
  padded = Pad (turned, widths)
  axis3 = Constant <value_ints: ints = [3]> ()
  axes22 = Constant <value_ints: ints = [2, 3]> ()
  total_0 = Unsqueeze (bias, axes22)
%(taps)s
  gate = Sigmoid (total_%(width)d)
  u = Mul (total_%(width)d, gate)
  matrix = Transpose <perm: ints = [0, 1, 3, 2]> (x_proj)
  axis2 = Constant <value_ints: ints = [2]> ()
  spread = Unsqueeze (matrix, axis2)
  projected = MatMul (u, spread)
}
"""
_TAP = """
  begin_%(tap)d = Constant <value_ints: ints = [%(tap)d]> ()
  end_%(tap)d = Constant <value_ints: ints = [%(end)d]> ()
  part_%(tap)d = Slice (padded, begin_%(tap)d, end_%(tap)d, axis3)
  index_%(tap)d = Constant <value_int: int = %(tap)d> ()
  chosen_%(tap)d = Gather <axis: int = 3> (weight, index_%(tap)d)
  factor_%(tap)d = Unsqueeze (chosen_%(tap)d, axes22)
  product_%(tap)d = Mul (part_%(tap)d, factor_%(tap)d)
  total_%(next)d = Add (total_%(tap)d, product_%(tap)d)
"""
_SCAN = """
permuted_selective_scan (u, projected, dt_weight, A, D, delta_bias, order) => (y)
{
  rank = Shape <start: int = 3> (dt_weight)
  states = Shape <start: int = 3> (A)
  sizes = Concat <axis: int = 0> (rank, states, states)
  steps, B, C = Split <axis: int = -1> (projected, sizes)
  matrix = Transpose <perm: ints = [0, 1, 3, 2]> (dt_weight)
  axis2 = Constant <value_ints: ints = [2]> ()
  axes22 = Constant <value_ints: ints = [2, 3]> ()
  spread = Unsqueeze (matrix, axis2)
  given = MatMul (steps, spread)
  bias = Unsqueeze (delta_bias, axes22)
  biased = Add (given, bias)
  delta = Softplus (biased)
  driven = Mul (delta, u)
  turned = Transpose <perm: ints = [0, 1, 3, 2]> (A)
  rates = Unsqueeze (turned, axis2)
  outer = Shape <start: int = 0, end: int = 3> (u)
  inner = Shape <start: int = 4> (u)
  shape = Concat <axis: int = 0> (outer, states, inner)
  start = ConstantOfShape (shape)
  last, scanned = Scan <num_scan_inputs: int = 4, scan_input_axes: ints = [3, 3, 3, 3], scan_output_axes: ints = [3],
    body: graph = one_token (float[s, k, b, n, d] h, float[s, k, b, d] delta_t, float[s, k, b, d] driven_t,
                             float[s, k, b, n] B_t, float[s, k, b, n] C_t)
      => (float[s, k, b, n, d] h_next, float[s, k, b, d] y_t)
    {
      row = Constant <value_ints: ints = [3]> ()
      column = Constant <value_ints: ints = [4]> ()
      delta_row = Unsqueeze (delta_t, row)
      exponent = Mul (delta_row, rates)
      decay = Exp (exponent)
      kept = Mul (decay, h)
      driven_row = Unsqueeze (driven_t, row)
      B_column = Unsqueeze (B_t, column)
      entered = Mul (B_column, driven_row)
      h_next = Add (kept, entered)
      C_row = Unsqueeze (C_t, row)
      product = MatMul (C_row, h_next)
      y_t = Squeeze (product, row)
    }> (start, delta, driven, B, C)
  skip = Unsqueeze (D, axes22)
  skipped = Mul (skip, u)
  along = Add (scanned, skipped)
  length = Shape <start: int = 1> (order)
  one_length = Squeeze (length)
  zero = Constant <value_int: int = 0> ()
  one = Constant <value_int: int = 1> ()
  positions = Range (zero, one_length, one)
  both = Shape (order)
  spread_positions = Expand (positions, both)
  back = ScatterElements <axis: int = 1> (order, order, spread_positions)
  axes024 = Constant <value_ints: ints = [0, 2, 4]> ()
  index = Unsqueeze (back, axes024)
  whole = Shape (along)
  full_index = Expand (index, whole)
  placed = GatherElements <axis: int = 3> (along, full_index)
  axis1 = Constant <value_ints: ints = [1]> ()
  y = ReduceSum <keepdims: int = 0> (placed, axis1)
}
"""
_GATE = """
gate <divisor> (y, z) => (out)
{
  sigmoid = Sigmoid (z)
  silu = Mul (z, sigmoid)
  gated = Mul (y, silu)
  by = Constant <value_float: float = @divisor> ()
  out = Div (gated, by)
}
"""
_GATED_NORM = """
gated_norm <divisor> (y, z, weight, bias) => (out)
{
  sigmoid = Sigmoid (z)
  silu = Mul (z, sigmoid)
  gated = Mul (y, silu)
  by = Constant <value_float: float = @divisor> ()
  v = Div (gated, by)
  axis = Constant <value_ints: ints = [-1]> ()
  mean = ReduceMean <keepdims: int = 1> (v, axis)
  off = Sub (v, mean)
  square = Mul (off, off)
  variance = ReduceMean <keepdims: int = 1> (square, axis)
  eps = Constant <value_float: float = 0.00001> ()
  more = Add (variance, eps)
  deviation = Sqrt (more)
  normed = Div (off, deviation)
  axes12 = Constant <value_ints: ints = [1, 2]> ()
  scale = Unsqueeze (weight, axes12)
  offset = Unsqueeze (bias, axes12)
  scaled = Mul (normed, scale)
  out = Add (scaled, offset)
}
"""
_CONV3X3 = """
%(name)s <dilations, pads, slope, slope_after> (x, weight, bias, before, after%(input)s) => (out)
{
  zero = Constant <value_ints: ints = [0]> ()
  one = Constant <value_ints: ints = [1]> ()
  two = Constant <value_ints: ints = [2]> ()
  before_scale = Slice (before, zero, one, zero)
  before_offset = Slice (before, one, two, zero)
  after_scale = Slice (after, zero, one, zero)
  after_offset = Slice (after, one, two, zero)
  scaled = Mul (x, before_scale)
  normed = Add (scaled, before_offset)
  first = Transpose <perm: ints = %(to_first)s> (normed)
%(upsampling)s
  convolved = Conv <dilations: ints = @dilations, pads: ints = @pads> (maps, weight, bias)
  last = Transpose <perm: ints = %(to_last)s> (convolved)
  activated = LeakyRelu <alpha: float = @slope> (last)
%(times)s
  scaled_after = Mul (given, after_scale)
  normed_after = Add (scaled_after, after_offset)
  result = LeakyRelu <alpha: float = @slope_after> (normed_after)
%(plus)s
}
"""
_NEAREST = """
  scales = Constant <value_floats: floats = %(scales)s> ()
  maps = Resize <mode: string = "nearest", nearest_mode: string = "floor",
                 coordinate_transformation_mode: string = "asymmetric"> (first, , scales)
"""


def _conv3x3(conv: str, ending: str) -> str:
    """The convolution of maps with all around it; the ending names its sixth input, or upsampling in front of it."""
    axes = list(range(1, CONVOLUTIONS[conv] + 1))
    upsampling = _NEAREST % {"scales": [1.0, 1.0] + [2.0 for _ in axes]}
    other = ending if ending in ("times", "plus") else ""
    parts = {
        "name": f"{conv}_{ending}" if ending else conv,
        "input": f", {other}" if other else "",
        "to_first": [0, len(axes) + 1, *axes],
        "to_last": [0, *(axis + 1 for axis in axes), 1],
        "upsampling": upsampling if ending == "upsampled" else "  maps = Identity (first)",
        "times": f"  given = {'Mul (activated, times)' if other == 'times' else 'Identity (activated)'}",
        "plus": f"  out = {'Add (result, plus)' if other == 'plus' else 'Identity (result)'}",
    }
    return _CONV3X3 % parts


def fallback_functions(opset: int) -> list[Any]:
    """The functions as ONNX's FunctionProto, in the words of a version of ONNX's own operators (18 or later)."""
    from onnx import parser

    header = f'<opset_import: ["" : {opset}], domain: "{DOMAIN}">'
    ends = [tap - TAPS + 1 if tap < TAPS - 1 else 2**62 for tap in range(TAPS)]
    taps = "".join(_TAP % {"tap": tap, "end": ends[tap], "next": tap + 1} for tap in range(TAPS))
    conv = _CONV % {"pad": TAPS - 1, "taps": taps, "width": TAPS}
    maps = [_conv3x3(conv, ending) for conv in CONVOLUTIONS for ending in ("", "upsampled", "times", "plus")]
    return [parser.parse_function(header + body) for body in (conv, _SCAN, _GATE, _GATED_NORM, *maps)]
