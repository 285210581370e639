// The part of torch's stable C interface (torch 2.8 and later) that the operators need. Declared here, so that neither
// a compiler nor the build needs torch; a function that a torch does not have is null.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct TorchTensor;
struct TorchLibrary;
using TorchValue = uint64_t;  // a tensor's address, an integer, the bits of a double, or the address of an optional value
using TorchKernel = void (*)(TorchValue* stack, uint64_t arguments, uint64_t results);

#define CFM_OF_TORCH __attribute__((weak))

CFM_OF_TORCH int32_t aoti_torch_library_init_fragment(const char* name, const char* file, uint32_t line, TorchLibrary**);
CFM_OF_TORCH int32_t aoti_torch_library_init_impl(const char* name, const char* key, const char* file, uint32_t line,
                                                  TorchLibrary**);
CFM_OF_TORCH int32_t aoti_torch_library_def(TorchLibrary*, const char* schema);
CFM_OF_TORCH int32_t aoti_torch_library_impl(TorchLibrary*, const char* name, TorchKernel);
CFM_OF_TORCH int32_t aoti_torch_call_dispatcher(const char* name, const char* overload, TorchValue* stack);
CFM_OF_TORCH int32_t aoti_torch_delete_tensor_object(TorchTensor*);
CFM_OF_TORCH int32_t aoti_torch_get_data_ptr(TorchTensor*, void**);
CFM_OF_TORCH int32_t aoti_torch_get_dim(TorchTensor*, int64_t*);
CFM_OF_TORCH int32_t aoti_torch_get_sizes(TorchTensor*, int64_t**);
CFM_OF_TORCH int32_t aoti_torch_get_strides(TorchTensor*, int64_t**);
CFM_OF_TORCH int32_t aoti_torch_get_dtype(TorchTensor*, int32_t*);
CFM_OF_TORCH int32_t aoti_torch_empty_strided(int64_t dims, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                                              int32_t device_type, int32_t device_index, TorchTensor**);
CFM_OF_TORCH int32_t aoti_torch_dtype_float32();
CFM_OF_TORCH int32_t aoti_torch_dtype_int64();
CFM_OF_TORCH int32_t aoti_torch_device_type_cpu();
CFM_OF_TORCH int32_t aoti_torch_memory_format_contiguous_format();
CFM_OF_TORCH int32_t torch_get_num_threads(uint32_t*);          // torch 2.10
CFM_OF_TORCH int32_t torch_delete_stable_ivalue(TorchValue*);   // torch 2.13; earlier ones: delete

}  // extern "C"
