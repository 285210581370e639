// The operators for torch, in C++ and Python alike: torch.ops.clinicalfmamba on torch's stable C interface. Whoever
// loads this library can run the exported programs; the Python package adds derivatives and shapes, nothing else.
#include <dlfcn.h>

#include <algorithm>
#include <thread>

#include "torch_abi.h"
#include "views.hpp"

using namespace cfm_host;

namespace {

void done(int32_t code, const char* what) {
    if (code) throw std::runtime_error(std::string("torch: ") + what + " failed");
}

TorchTensor* tensor_of(TorchValue value) { return reinterpret_cast<TorchTensor*>(value); }

// An argument, owned; dense on demand.
class Argument : public View {
public:
    Argument(const char* op, const char* label, TorchValue value, bool indices = false) : tensor_(tensor_of(value)) {
        name = label;
        int32_t dtype = 0;
        done(aoti_torch_get_dtype(tensor_, &dtype), "get_dtype");
        if (dtype != (indices ? aoti_torch_dtype_int64() : aoti_torch_dtype_float32()))
            throw std::runtime_error(std::string(op) + ": " + label + ": expected " + (indices ? "int64" : "float32") +
                                     "; convert the network and its input to float32");
        read();
    }
    Argument(const Argument&) = delete;
    ~Argument() { aoti_torch_delete_tensor_object(tensor_); }

    // The numbers of a token next to each other.
    Argument& rows() { return dims && strides[dims - 1] != 1 && sizes[dims - 1] > 1 ? copied() : *this; }

    Argument& dense() {
        int64_t expected = 1;
        for (int64_t i = dims - 1; i >= 0; --i) {
            if (sizes[i] != 1 && strides[i] != expected) return copied();
            expected *= std::max<int64_t>(sizes[i], 1);
        }
        return *this;
    }

private:
    Argument& copied() {
        TorchValue stack[2] = {reinterpret_cast<TorchValue>(tensor_),
                               static_cast<TorchValue>(aoti_torch_memory_format_contiguous_format())};
        done(aoti_torch_call_dispatcher("aten::contiguous", "", stack), "contiguous");  // takes the old one
        tensor_ = tensor_of(stack[0]);
        read();
        return *this;
    }

    void read() {
        int64_t *s = nullptr, *t = nullptr;
        done(aoti_torch_get_dim(tensor_, &dims), "get_dim");
        if (dims > 8) throw std::runtime_error(std::string(name) + ": too many dimensions");
        done(aoti_torch_get_sizes(tensor_, &s), "get_sizes");
        done(aoti_torch_get_strides(tensor_, &t), "get_strides");
        std::copy(s, s + dims, sizes);
        std::copy(t, t + dims, strides);
        done(aoti_torch_get_data_ptr(tensor_, &data), "get_data_ptr");
    }

    TorchTensor* tensor_;
};

// A new dense tensor, given away with `release`.
class Result {
public:
    explicit Result(const std::vector<int64_t>& sizes) {
        std::vector<int64_t> strides(sizes.size(), 1);
        for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(sizes[i], 1);
        done(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                                      aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0, &tensor_),
             "empty_strided");
        void* data = nullptr;
        done(aoti_torch_get_data_ptr(tensor_, &data), "get_data_ptr");
        first = static_cast<float*>(data);
    }
    Result(const Result&) = delete;
    ~Result() {
        if (tensor_) aoti_torch_delete_tensor_object(tensor_);
    }
    TorchValue release() {
        const auto value = reinterpret_cast<TorchValue>(tensor_);
        tensor_ = nullptr;
        return value;
    }
    float* first = nullptr;

private:
    TorchTensor* tensor_ = nullptr;
};

// What an optional argument holds; its wrapping is given back.
TorchValue opened(TorchValue value) {
    auto* held = reinterpret_cast<TorchValue*>(value);
    if (!held) return 0;
    const TorchValue inner = *held;
    if (torch_delete_stable_ivalue) torch_delete_stable_ivalue(held);
    else delete held;
    return inner;
}

struct Optional {
    Optional(const char* op, const char* label, TorchValue value) {
        if (const TorchValue inner = opened(value)) held.reset(new Argument(op, label, inner));
    }
    const View* dense() { return held ? &held->dense() : nullptr; }
    std::unique_ptr<Argument> held;
};

int64_t threads() {
    uint32_t count = 0;
    if (torch_get_num_threads && !torch_get_num_threads(&count) && count) return count;
    return std::max(1u, std::thread::hardware_concurrency());
}

CfmStrides dense_tokens(int64_t B, int64_t L, int64_t D) { return {B * L * D, 0, L * D, D, 1}; }

double number(TorchValue bits) {
    double value = 0.0;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

void conv(TorchValue* stack, uint64_t, uint64_t) {
    const char* op = "permuted_conv1d_silu";
    Argument x(op, "x", stack[0]), weight(op, "weight", stack[1]), bias(op, "bias", stack[2]);
    Argument x_proj(op, "x_proj", stack[3]), order(op, "order", stack[4], true);
    CfmConv p = conv_of(x.rows(), weight.dense(), bias.dense(), x_proj.dense(), order.dense(), threads());
    Result u({p.S, p.K, p.B, p.L, p.D}), projected({p.S, p.K, p.B, p.L, p.P});
    p.u = u.first, p.projected = projected.first;
    check(op, cfm_conv_forward(&p));
    stack[0] = u.release(), stack[1] = projected.release();
}

void permuted_scan(TorchValue* stack, uint64_t, uint64_t) {
    const char* op = "permuted_selective_scan";
    Argument u(op, "u", stack[0]), projected(op, "projected", stack[1]), dt_weight(op, "dt_weight", stack[2]);
    Argument A(op, "A", stack[3]), D(op, "D", stack[4]), delta_bias(op, "delta_bias", stack[5]);
    Argument order(op, "order", stack[6], true);
    CfmScan p = permuted_scan_of(u, projected.rows(), dt_weight.dense(), A.dense(), D.dense(), delta_bias.dense(),
                                 order.dense(), threads());
    Result y({p.S, p.B, p.L, p.D});
    p.y = y.first, p.ys = dense_tokens(p.B, p.L, p.D);
    check(op, cfm_scan_forward(&p));
    stack[0] = y.release();
}

void gate(TorchValue* stack, uint64_t, uint64_t) {
    const char* op = "gated_norm";
    Argument y(op, "y", stack[0]), z(op, "z", stack[1]);
    Optional weight(op, "weight", stack[2]), bias(op, "bias", stack[3]);
    CfmGate p = gate_of(y.dense(), z.rows(), weight.dense(), bias.dense(), number(stack[4]), threads());
    Result out({p.S, p.B, p.L, p.D});
    p.out = out.first;
    check(op, cfm_gate_forward(&p));
    stack[0] = out.release();
}

void conv3x3(TorchValue* stack, uint64_t, uint64_t) {
    const char* op = "conv3x3";
    Argument x(op, "x", stack[0]), weight(op, "weight", stack[1]), bias(op, "bias", stack[2]);
    Optional before(op, "before", stack[3]), after(op, "after", stack[4]), times(op, "times", stack[5]);
    Optional plus(op, "plus", stack[6]);
    MapsOptions options;
    options.dilation = static_cast<int64_t>(stack[7]), options.scale = static_cast<int64_t>(stack[8]);
    options.fast = stack[9] & 1, options.slope = number(stack[10]), options.slope_after = number(stack[11]);
    CfmMaps p = maps_of(x.dense(), weight.dense(), bias.dense(), before.dense(), after.dense(), times.dense(),
                        plus.dense(), options, threads());
    Result out(result_of(p));
    p.out = out.first;
    check(op, cfm_maps_forward(&p));
    stack[0] = out.release();
}

CfmStrides channels(const View& x) { return {0, 0, x.strides[0], x.strides[2], x.strides[1]}; }  // of (B, D, L)

CfmStateStrides states(const View& x) {  // of (B, N, L) or (B, G, N, L)
    const int64_t* t = x.strides;
    return x.dims == 4 ? CfmStateStrides{0, 0, t[0], t[1], t[3], t[2]} : CfmStateStrides{0, 0, t[0], 0, t[2], t[1]};
}

void scan(TorchValue* stack, uint64_t, uint64_t) {
    const char* op = "selective_scan";
    Argument u(op, "u", stack[0]), delta(op, "delta", stack[1]), A(op, "A", stack[2]), B(op, "B", stack[3]);
    Argument C(op, "C", stack[4]);
    Optional D(op, "D", stack[5]), z(op, "z", stack[6]), delta_bias(op, "delta_bias", stack[7]);
    expect_dims(op, u, 3), expect_dims(op, A, 2);
    CfmScan p{};
    p.S = p.K = 1, p.B = u.sizes[0], p.D = u.sizes[1], p.L = u.sizes[2], p.N = A.sizes[1], p.threads = threads();
    p.G = B.dims == 4 ? B.sizes[1] : 1, p.softplus = stack[8] & 1;
    if (p.G < 1 || p.D % p.G) throw std::runtime_error("selective_scan: B: expected groups that share the channels evenly");
    expect(op, delta, {p.B, p.D, p.L}), expect(op, A, {p.D, p.N});
    for (const View* x : {static_cast<View*>(&B), static_cast<View*>(&C)})
        B.dims == 4 ? expect(op, *x, {p.B, p.G, p.N, p.L}) : expect(op, *x, {p.B, p.N, p.L});
    p.u = u.dense().f(), p.us = channels(u), p.delta = delta.dense().f(), p.deltas = channels(delta), p.A = A.dense().f();
    p.Bm = B.f(), p.Bs = states(B), p.Cm = C.f(), p.Cs = states(C);
    if (const View* x = z.dense()) expect(op, *x, {p.B, p.D, p.L}), p.z = x->f(), p.zs = channels(*x);
    if (const View* x = D.dense()) expect(op, *x, {p.D}), p.D_skip = x->f();
    if (const View* x = delta_bias.dense()) expect(op, *x, {p.D}), p.delta_bias = x->f();
    Result y({p.B, p.D, p.L}), last({p.B, p.D, p.N});
    p.y = y.first, p.ys = CfmStrides{0, 0, p.D * p.L, 1, p.L}, p.last_state = last.first;
    check(op, cfm_scan_forward(&p));
    stack[0] = y.release(), stack[1] = last.release();
}

struct Operator {
    const char *name, *schema;
    TorchKernel kernel;
};

const Operator OPERATORS[] = {
    {"selective_scan",
     "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
     "bool delta_softplus) -> (Tensor, Tensor)",
     scan},
    {"permuted_selective_scan",
     "permuted_selective_scan(Tensor u, Tensor projected, Tensor dt_weight, Tensor A, Tensor D, Tensor delta_bias, "
     "Tensor order) -> Tensor",
     permuted_scan},
    {"permuted_conv1d_silu",
     "permuted_conv1d_silu(Tensor x, Tensor weight, Tensor bias, Tensor x_proj, Tensor order) -> (Tensor, Tensor)", conv},
    {"gated_norm", "gated_norm(Tensor y, Tensor z, Tensor? weight, Tensor? bias, float divisor) -> Tensor", gate},
    {"conv3x3",
     "conv3x3(Tensor x, Tensor weight, Tensor bias, Tensor? before, Tensor? after, Tensor? times, Tensor? plus, "
     "int dilation, int scale, bool fast, float slope, float slope_after) -> Tensor",
     conv3x3},
};

// As the library is loaded; never taken back, for a program that holds the operators may outlive everything else.
int register_operators() {
    if (!aoti_torch_library_init_fragment || !aoti_torch_library_impl || !cfm_variant()) return 0;
    TorchLibrary *definitions = nullptr, *kernels = nullptr;
    if (aoti_torch_library_init_fragment("clinicalfmamba", "torch_ops.cpp", 0, &definitions)) return 0;
    if (aoti_torch_library_init_impl("clinicalfmamba", "CPU", "torch_ops.cpp", 0, &kernels)) return 0;
    for (const Operator& op : OPERATORS) {
        if (aoti_torch_library_def(definitions, op.schema)) return 0;  // another copy of this library has it
        if (aoti_torch_library_impl(kernels, op.name, op.kernel)) return 0;
    }
    if (void* parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel")) cfm_use_openmp(parallel);
    return 1;
}

}  // namespace

extern "C" {
CFM_EXPORT extern const int cfm_torch_operators = register_operators();
CFM_EXPORT int cfm_operators_version(void) { return CFM_OPERATORS_VERSION; }
}
