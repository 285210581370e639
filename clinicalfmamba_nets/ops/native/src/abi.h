/* The C interface of the kernels: plain structs of pointers and sizes, mirrored by ops/native/abi.py. */
#pragma once

#include <stdint.h>

#define CFM_EXPORT __attribute__((visibility("default")))
#define CFM_OPERATORS_VERSION 3 /* of what exported programs call: names, arguments and meaning */

#ifdef __cplusplus
extern "C" {
#endif

/* Element strides of a tensor indexed by weight set, direction, batch, token, channel. */
typedef struct {
    int64_t s, k, b, l, d;
} CfmStrides;

/* Element strides of B or C: weight set, direction, batch, group, token, state. */
typedef struct {
    int64_t s, k, b, g, l, n;
} CfmStateStrides;

/* One selective scan: S weight sets, K directions, batch B, G groups of channels, L tokens, D channels, N states.
   Optional pointers are null. order (K, L) holds the token that is position l of direction k; null: order of storage.
   Where R is not 0, delta is the product of steps and dt_weight, which is formed on the way; G is 1 then. */
typedef struct {
    int64_t S, K, B, G, L, D, N;
    int64_t softplus;      /* 1: delta -> log(1 + exp(delta + delta_bias)) */
    int64_t threads;
    const float *u, *delta, *z;     /* (S, K, B, L, D) by strides */
    CfmStrides us, deltas, zs;
    const float *A;                 /* (S, K, D, N) contiguous */
    const float *Bm, *Cm;
    CfmStateStrides Bs, Cs;
    const float *D_skip, *delta_bias; /* (S, K, D) contiguous, optional */
    const int64_t* order;
    float* states;                  /* (S, K, B, tiles, D blocks, N, W): states at the start of each tile; optional */
    int64_t R;                      /* rank of the time steps, or 0: delta is given */
    const float* steps;             /* (S, K, B, L, R) by strides, the last of them 1 */
    CfmStateStrides stepss;
    const float* dt_weight;         /* (S, K, D, R) contiguous */
    /* forward */
    float* y;                       /* (S, B, L, D) by strides ys (k unused) */
    CfmStrides ys;
    float* last_state;              /* (S, K, B, D, N), optional */
    /* backward */
    const float* dy;                /* (S, B, L, D) by strides dys (k unused) */
    CfmStrides dys;
    const float* dlast_state;       /* (S, K, B, D, N), optional */
    float *du, *ddelta, *dz;        /* strides dus, ddeltas, dzs */
    CfmStrides dus, ddeltas, dzs;
    float *dA, *dD_skip, *ddelta_bias; /* (S, K, D, N), (S, K, D); the latter two optional */
    float *dB, *dC;                 /* strides dBs, dCs */
    CfmStateStrides dBs, dCs;
    float *dsteps, *ddt_weight;     /* strides dstepss; (S, K, D, R) */
    CfmStateStrides dstepss;
} CfmScan;

/* One permuted causal depthwise convolution followed by SiLU, and what its result u is projected to: P numbers a token. */
typedef struct {
    int64_t S, K, B, L, D, width;
    int64_t threads;
    const float* x;                 /* (S, B, L, D) by strides xs (k unused) */
    CfmStrides xs;
    const float *weight, *bias;     /* (S, K, D, width), (S, K, D) contiguous; bias optional */
    const int64_t* order;           /* (K, L) or null */
    float* u;                       /* forward: (S, K, B, L, D) contiguous */
    const float* du;                /* backward: (S, K, B, L, D) contiguous */
    float *dx, *dweight, *dbias;    /* (S, B, L, D) contiguous, (S, K, D, width), (S, K, D) or null */
    int64_t P;                      /* 0: no projection */
    const float* x_proj;            /* (S, K, P, D) contiguous */
    float* projected;               /* forward: (S, K, B, L, P) contiguous */
    const float* dprojected;        /* backward: (S, K, B, L, P) contiguous */
    float* dx_proj;                 /* (S, K, P, D) */
} CfmConv;

/* v = y SiLU(z) / divisor, then layer normalization over the D channels of each token where there are weights. */
typedef struct {
    int64_t S, B, L, D;             /* D: a multiple of 16 */
    int64_t threads;
    double divisor;
    const float *y, *z;             /* (S, B, L, D): y contiguous, z by strides zs (k unused, d is 1) */
    CfmStrides zs;
    const float *weight, *bias;     /* (S, D) contiguous, both or neither */
    float* out;                     /* forward: (S, B, L, D) contiguous */
    const float* dout;              /* backward: (S, B, L, D) contiguous */
    float *dy, *dz;                 /* (S, B, L, D) contiguous */
    float *dweight, *dbias;         /* (S, D) */
} CfmGate;

/* 3x3 or 3x3x3 convolution of maps whose channels come last, zero-padded to keep their size, and what stands around it:
   out = leaky_after(after(leaky(conv(before(x)) + bias) times)) + plus; what is null is left out, leaky_after with after.
   before and after are a scale and an offset for each channel; leaky(v) is slope v where v is negative. */
typedef struct {
    int64_t dims;                   /* 2: images, of one plane; 3: volumes */
    int64_t B, planes, rows, columns;
    int64_t C, D;                   /* channels of x and of the result: multiples of 16 */
    int64_t dilation;
    int64_t scale;                  /* 2: nearest upsampling by 2 in front of the convolution, whose dilation is 1; or 1 */
    int64_t fast;                   /* 1: fewer products of images, rounded more coarsely */
    int64_t threads;
    double slope, slope_after;      /* at most 1, which is none */
    const float* x;                 /* (B, planes, rows, columns, C) contiguous */
    const float *weight, *bias;     /* (D, C, 3, 3) or (D, C, 3, 3, 3), (D) contiguous */
    const float *before, *after;    /* (2, C), (2, D) contiguous, or null */
    const float *times, *plus;      /* as out, or null */
    float* out;                     /* (B, scale planes, scale rows, scale columns, D) contiguous; one plane of images */
} CfmMaps;

/* Shares of the first source in B mixes of two, refined by Adam: see engine/fusion/refinement.py, which tells the
   weights' meaning. */
typedef struct {
    int64_t B, rows, columns;       /* rows and columns: multiples of 8, at least 16 */
    int64_t steps;
    int64_t threads;
    double rate, overshoot, texture, information, structure, correlation, brightness, lesions;
    const float* pair;              /* (B, 2, rows, columns) contiguous, in [0, 1] */
    float* share;                   /* (B, rows, columns) contiguous; refined in place */
    const float *least, *most;      /* (B, rows, columns) contiguous: bounds of the shares */
    const float* squares;           /* (B, 2, rows, columns) contiguous, or null: weights of the squared shares of both */
    float* slope;                   /* of cfm_mix_slope: the loss's slopes by the pixels of the mix, as share */
} CfmMix;

/* Each returns 0, or 1 where N or width is not one of the compiled ones, 2 where memory ran out,
   3 where order is not a permutation, 4 where the library was built for another processor, 5 where the channels of
   maps are not multiples of 16, or a dilation or a scale is none, 6 where the sides of a mix are not as told. */
CFM_EXPORT int cfm_scan_forward(const CfmScan* scan);
CFM_EXPORT int cfm_scan_backward(const CfmScan* scan);
CFM_EXPORT int cfm_conv_forward(const CfmConv* conv);
CFM_EXPORT int cfm_conv_backward(const CfmConv* conv);
CFM_EXPORT int cfm_gate_forward(const CfmGate* gate);
CFM_EXPORT int cfm_gate_backward(const CfmGate* gate);
CFM_EXPORT int cfm_maps_forward(const CfmMaps* maps);
CFM_EXPORT int cfm_mix_refine(const CfmMix* mix);
CFM_EXPORT int cfm_mix_slope(const CfmMix* mix);
CFM_EXPORT int64_t cfm_vector_width(void);
CFM_EXPORT int64_t cfm_tile_tokens(void);
CFM_EXPORT const char* cfm_variant(void); /* the kernels that this processor runs, null for none: see dispatch.cpp */
CFM_EXPORT void cfm_use_openmp(void* gomp_parallel);

/* For benchmarks: see roofline.cpp. */
CFM_EXPORT int64_t cfm_peak_fma(int64_t rounds, float* out);
CFM_EXPORT void cfm_exp_rate(const float* x, float* y, int64_t n, int64_t rounds);
CFM_EXPORT void cfm_triad(const float* x, float* y, float s, int64_t n);

#ifdef __cplusplus
}
#endif
