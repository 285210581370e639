// The operators for ONNX Runtime: give the path of this library to SessionOptions.register_custom_ops_library.
#include <algorithm>
#include <thread>

#include "onnxruntime_abi.h"
#include "views.hpp"

using namespace cfm_host;

namespace {

// The session's threads do the work: ONNX Runtime gives them to a call of an operator.
thread_local const OrtApi* api_of_call = nullptr;
thread_local OrtKernelContext* context_of_call = nullptr;

void on_threads_of_session(void (*work)(void*), void* job, unsigned threads, unsigned) {
    struct Call {
        void (*work)(void*);
        void* job;
    } call{work, job};
    OrtStatus* failed = ort_call<PARALLEL_FOR>(
        api_of_call, static_cast<const OrtKernelContext*>(context_of_call),
        +[](void* c, size_t) { static_cast<Call*>(c)->work(static_cast<Call*>(c)->job); }, size_t{threads}, size_t{0},
        static_cast<void*>(&call));
    if (!failed) return;
    ort_call<RELEASE_STATUS, void>(api_of_call, failed);
    work(job);  // one thread does it all
}

struct Kernel {
    const OrtApi* api;
    float divisor = 1.0f;
    MapsOptions maps{};
};

// The attributes of a node, read into its kernel; the first failure is told.
class Attributes {
public:
    Attributes(const OrtApi* api, const OrtKernelInfo* info) : api_(api), info_(info) {}
    template <class Number>
    Attributes& number(const char* name, Number& out) {
        float value = 0.0f;
        if (!failed_) failed_ = ort_call<FLOAT_ATTRIBUTE>(api_, info_, name, &value);
        out = value;
        return *this;
    }
    Attributes& integer(const char* name, int64_t& out) {
        if (!failed_) failed_ = ort_call<INT_ATTRIBUTE>(api_, info_, name, &out);
        return *this;
    }
    OrtStatus* failed() const { return failed_; }

private:
    const OrtApi* api_;
    const OrtKernelInfo* info_;
    OrtStatus* failed_ = nullptr;
};

OrtStatus* without_attributes(Attributes&, Kernel&) { return nullptr; }
OrtStatus* read_divisor(Attributes& node, Kernel& kernel) { return node.number("divisor", kernel.divisor).failed(); }
OrtStatus* read_maps(Attributes& node, Kernel& kernel) {
    MapsOptions& o = kernel.maps;
    node.integer("dilation", o.dilation).integer("scale", o.scale).integer("fast", o.fast);
    return node.number("slope", o.slope).number("slope_after", o.slope_after).failed();
}

// The arguments and results of one call.
class Call {
public:
    Call(const Kernel& kernel, OrtKernelContext* context) : api_(kernel.api), context_(context) {
        api_of_call = api_, context_of_call = context;
    }

    View input(size_t index, const char* name) const {
        const OrtValue* value = nullptr;
        need(ort_call<INPUT>(api_, static_cast<const OrtKernelContext*>(context_), index, &value));
        View view;
        view.name = name;
        need(ort_call<TENSOR_DATA>(api_, const_cast<OrtValue*>(value), &view.data));
        OrtShape* shape = nullptr;
        need(ort_call<TENSOR_SHAPE>(api_, value, &shape));
        size_t dims = 0;
        need(ort_call<DIMENSION_COUNT>(api_, static_cast<const OrtShape*>(shape), &dims));
        if (dims > 8) throw std::runtime_error(std::string(name) + ": too many dimensions");
        view.dims = static_cast<int64_t>(dims);
        need(ort_call<DIMENSIONS>(api_, static_cast<const OrtShape*>(shape), view.sizes, dims));
        ort_call<RELEASE_SHAPE, void>(api_, shape);
        for (int64_t i = view.dims, stride = 1; i-- > 0; stride *= std::max<int64_t>(view.sizes[i], 1))
            view.strides[i] = stride;
        return view;
    }

    float* output(size_t index, const std::vector<int64_t>& sizes) const {
        OrtValue* value = nullptr;
        need(ort_call<OUTPUT>(api_, context_, index, sizes.data(), sizes.size(), &value));
        void* data = nullptr;
        need(ort_call<TENSOR_DATA>(api_, value, &data));
        return static_cast<float*>(data);
    }

private:
    void need(OrtStatus* status) const {
        if (!status) return;
        ort_call<RELEASE_STATUS, void>(api_, status);
        throw std::runtime_error("ONNX Runtime refused an argument or a result of an operator");
    }

    const OrtApi* api_;
    OrtKernelContext* context_;
};

int64_t threads() { return std::max(1u, std::thread::hardware_concurrency()); }

void conv(const Kernel&, const Call& call) {
    CfmConv p = conv_of(call.input(0, "x"), call.input(1, "weight"), call.input(2, "bias"), call.input(3, "x_proj"),
                        call.input(4, "order"), threads());
    p.u = call.output(0, {p.S, p.K, p.B, p.L, p.D}), p.projected = call.output(1, {p.S, p.K, p.B, p.L, p.P});
    check("permuted_conv1d_silu", cfm_conv_forward(&p));
}

void permuted_scan(const Kernel&, const Call& call) {
    CfmScan p = permuted_scan_of(call.input(0, "u"), call.input(1, "projected"), call.input(2, "dt_weight"),
                                 call.input(3, "A"), call.input(4, "D"), call.input(5, "delta_bias"),
                                 call.input(6, "order"), threads());
    p.y = call.output(0, {p.S, p.B, p.L, p.D}), p.ys = CfmStrides{p.B * p.L * p.D, 0, p.L * p.D, p.D, 1};
    check("permuted_selective_scan", cfm_scan_forward(&p));
}

void gate(const Kernel& kernel, const Call& call) {
    CfmGate p = gate_of(call.input(0, "y"), call.input(1, "z"), nullptr, nullptr, kernel.divisor, threads());
    p.out = call.output(0, {p.S, p.B, p.L, p.D});
    check("gated_norm", cfm_gate_forward(&p));
}

void gate_and_norm(const Kernel& kernel, const Call& call) {
    const View weight = call.input(2, "weight"), bias = call.input(3, "bias");
    CfmGate p = gate_of(call.input(0, "y"), call.input(1, "z"), &weight, &bias, kernel.divisor, threads());
    p.out = call.output(0, {p.S, p.B, p.L, p.D});
    check("gated_norm", cfm_gate_forward(&p));
}

enum class Ending { none, upsampled, times, plus };  // of the operator's name: what its sixth input is, or its scale

template <Ending ENDING>
void conv3x3(const Kernel& kernel, const Call& call) {
    constexpr bool TIMES = ENDING == Ending::times, PLUS = ENDING == Ending::plus;
    const View before = call.input(3, "before"), after = call.input(4, "after");
    const View other = TIMES || PLUS ? call.input(5, TIMES ? "times" : "plus") : View{};
    CfmMaps p = maps_of(call.input(0, "x"), call.input(1, "weight"), call.input(2, "bias"), &before, &after,
                        TIMES ? &other : nullptr, PLUS ? &other : nullptr, kernel.maps, threads());
    p.out = call.output(0, result_of(p));
    check("conv3x3", cfm_maps_forward(&p));
}

template <class Operator>
struct Registered : OrtCustomOp {
    Registered() : OrtCustomOp{} {
        version = ORT_VERSION;
        GetName = [](const OrtCustomOp*) { return Operator::NAME; };
        GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
        GetInputTypeCount = [](const OrtCustomOp*) { return Operator::INPUTS; };
        GetOutputTypeCount = [](const OrtCustomOp*) { return Operator::OUTPUTS; };
        GetInputType = [](const OrtCustomOp*, size_t i) { return i == Operator::ORDER ? ORT_INT64 : ORT_FLOAT; };
        GetOutputType = [](const OrtCustomOp*, size_t) { return ORT_FLOAT; };
        GetInputCharacteristic = GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };
        GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };
        GetVariadicInputMinArity = GetVariadicInputHomogeneity = GetVariadicOutputMinArity = GetVariadicOutputHomogeneity =
            [](const OrtCustomOp*) { return 1; };
        GetStartVersion = [](const OrtCustomOp*) { return 1; };
        GetEndVersion = [](const OrtCustomOp*) { return CFM_OPERATORS_VERSION; };
        CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
            auto* made = new Kernel{api};
            *kernel = made;
            Attributes attributes(api, info);
            return Operator::read(attributes, *made);
        };
        KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
        KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
            const auto& own = *static_cast<Kernel*>(kernel);
            try {
                Operator::run(own, Call(own, context));
                return nullptr;
            } catch (const std::exception& error) {
                return ort_call<CREATE_STATUS>(own.api, 1, error.what());
            }
        };
    }
};

struct Conv {
    static constexpr const char* NAME = "permuted_conv1d_silu";
    static constexpr size_t INPUTS = 5, OUTPUTS = 2, ORDER = 4;
    static constexpr auto read = without_attributes;
    static constexpr auto run = conv;
};
struct Scan {
    static constexpr const char* NAME = "permuted_selective_scan";
    static constexpr size_t INPUTS = 7, OUTPUTS = 1, ORDER = 6;
    static constexpr auto read = without_attributes;
    static constexpr auto run = permuted_scan;
};
struct Gate {
    static constexpr const char* NAME = "gate";
    static constexpr size_t INPUTS = 2, OUTPUTS = 1, ORDER = 99;
    static constexpr auto read = read_divisor;
    static constexpr auto run = gate;
};
struct GatedNorm {
    static constexpr const char* NAME = "gated_norm";
    static constexpr size_t INPUTS = 4, OUTPUTS = 1, ORDER = 99;
    static constexpr auto read = read_divisor;
    static constexpr auto run = gate_and_norm;
};
// Of images and of volumes one kernel; the names differ because the functions that stand in for them do.
constexpr const char* MAPS_NAMES[][4] = {{"conv3x3", "conv3x3_upsampled", "conv3x3_times", "conv3x3_plus"},
                                         {"conv3x3x3", "conv3x3x3_upsampled", "conv3x3x3_times", "conv3x3x3_plus"}};
template <int DIMS, Ending ENDING>
struct Maps {
    static constexpr const char* NAME = MAPS_NAMES[DIMS - 2][static_cast<int>(ENDING)];
    static constexpr size_t INPUTS = ENDING == Ending::times || ENDING == Ending::plus ? 6 : 5, OUTPUTS = 1, ORDER = 99;
    static constexpr auto read = read_maps;
    static constexpr auto run = conv3x3<ENDING>;
};

template <class Operator>
const Registered<Operator> registered;

template <class... Operators>
OrtStatus* add(const OrtApi* api, OrtDomain* domain) {
    for (const OrtCustomOp* op : {static_cast<const OrtCustomOp*>(&registered<Operators>)...})
        if (OrtStatus* failed = ort_call<ADD_TO_DOMAIN>(api, domain, op)) return failed;
    return nullptr;
}

template <int DIMS>
OrtStatus* add_maps(const OrtApi* api, OrtDomain* domain) {
    return add<Maps<DIMS, Ending::none>, Maps<DIMS, Ending::upsampled>, Maps<DIMS, Ending::times>,
               Maps<DIMS, Ending::plus>>(api, domain);
}

}  // namespace

extern "C" CFM_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* api = base->GetApi(ORT_VERSION);
    if (!api) return ort_call<CREATE_STATUS>(base->GetApi(1), 1, "clinicalfmamba: expected ONNX Runtime 1.17 or later");
    if (!cfm_variant()) return ort_call<CREATE_STATUS>(api, 1, "clinicalfmamba: this library was built for another processor");
    cfm_use_openmp(reinterpret_cast<void*>(on_threads_of_session));
    OrtDomain* domain = nullptr;  // lives as long as the process, as the operators do
    if (OrtStatus* failed = ort_call<CREATE_DOMAIN>(api, "clinicalfmamba", &domain)) return failed;
    if (OrtStatus* failed = add<Conv, Scan, Gate, GatedNorm>(api, domain)) return failed;
    if (OrtStatus* failed = add_maps<2>(api, domain)) return failed;
    if (OrtStatus* failed = add_maps<3>(api, domain)) return failed;
    return ort_call<ADD_DOMAIN>(api, options, domain);
}
