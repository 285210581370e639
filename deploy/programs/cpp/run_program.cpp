// Runs a program of `clinicalfmamba export --format ts` in C++: libtorch and the operators' library, no Python.
//
//   run_program PROGRAM LIBRARY B H W < pair.raw > fused.raw
//
// pair.raw holds B x 2 x H x W numbers, float32 in [0, 1]; fused.raw B x 1 x H x W. LIBRARY is what
// `clinicalfmamba export ... --library DIR` has copied, or "-" for a portable program. Not a medical device.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include <torch/script.h>

int fail(const std::string& cause) {
    const size_t begin = cause.find_first_not_of(" \n");  // some of torch's messages begin with an empty line
    const std::string line = begin == std::string::npos ? "no message" : cause.substr(begin, cause.find('\n', begin) - begin);
    std::fprintf(stderr, "error: %s\n", line.c_str());
    return 1;
}

int main(int count, char** words) {
    if (count != 6) return fail("expected PROGRAM LIBRARY B H W");
    const std::string program = words[1], library = words[2];
    if (library != "-" && !dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL)) return fail(dlerror());
    const int64_t B = std::atoll(words[3]), H = std::atoll(words[4]), W = std::atoll(words[5]);
    if (B < 1 || H < 1 || W < 1) return fail("expected B, H and W of 1 or more");
    try {
        torch::jit::ExtraFilesMap facts{{"clinicalfmamba.json", ""}};
        torch::jit::script::Module network;
        try {
            network = torch::jit::load(program, torch::kCPU, facts);
        } catch (const std::exception& error) {
            const std::string what = error.what();
            if (what.find("clinicalfmamba::") == std::string::npos) throw;
            return fail(program + ": expected the operators' library, found none; name it as LIBRARY");
        }
        if (facts["clinicalfmamba.json"].empty()) return fail(program + ": expected a program of clinicalfmamba export");
        torch::NoGradGuard no_gradients;
        torch::Tensor pair = torch::empty({B, 2, H, W});
        const auto numbers = static_cast<size_t>(pair.numel());
        if (std::fread(pair.data_ptr<float>(), sizeof(float), numbers, stdin) != numbers)
            return fail("expected " + std::to_string(numbers) + " float32 numbers on the standard input, found fewer");
        if (std::fgetc(stdin) != EOF)
            return fail("expected " + std::to_string(numbers) + " float32 numbers on the standard input, found more");
        const float low = pair.min().item<float>(), high = pair.max().item<float>();
        if (!(low >= -0.01f && high <= 1.01f))  // NaN is neither
            return fail("expected values from 0 to 1, found " + std::to_string(low) + " to " + std::to_string(high));
        const torch::Tensor fused = network.forward({pair}).toTensor().contiguous();
        const auto results = static_cast<size_t>(fused.numel());
        if (std::fwrite(fused.data_ptr<float>(), sizeof(float), results, stdout) != results || std::fflush(stdout))
            return fail("expected room for the result on the standard output");
    } catch (const std::exception& error) {
        return fail(error.what());
    }
    return 0;
}
