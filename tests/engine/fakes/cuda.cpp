// SPDX-License-Identifier: GPL-3.0-or-later
// Stands in for the driver's libcuda.so.1.
#include <cstdio>
#include <cstring>

#include "tests/engine/fakes/settings.h"

extern "C" {

winnow::test::FakeCuda fakeCuda;

int cuInit(unsigned) { return fakeCuda.initResult; }
int cuDriverGetVersion(int* version) {
  *version = fakeCuda.version;
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = fakeCuda.devices;
  return fakeCuda.countResult;
}
int cuDeviceGet(int* device, int index) {
  *device = index;
  return index < fakeCuda.devices ? 0 : 101;
}
int cuDeviceGetName(char* name, int length, int device) {
  std::snprintf(name, static_cast<size_t>(length), "%s", fakeCuda.name[device]);
  return 0;
}
int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  *bytes = fakeCuda.total[device];
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (attribute == 75) *value = fakeCuda.major[device];
  else if (attribute == 76) *value = fakeCuda.minor[device];
  else if (attribute == 16) *value = 132;
  else return 1;
  return 0;
}
int cuDeviceGetPCIBusId(char* id, int length, int device) {
  std::snprintf(id, static_cast<size_t>(length), "0000:%02X:00.0", 0x3b + device);
  return 0;
}
int cuGetErrorName(int error, const char** name) {
  *name = error == 999 ? "CUDA_ERROR_UNKNOWN" : nullptr;
  return error == 999 ? 0 : 1;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  static int devices[4] = {0, 1, 2, 3};
  *context = &devices[device];
  ++fakeCuda.contexts;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
  --fakeCuda.contexts;
  return 0;
}
int cuCtxPushCurrent_v2(void* context) {
  fakeCuda.pushed = *static_cast<int*>(context);
  return 0;
}
int cuCtxPopCurrent_v2(void**) {
  fakeCuda.pushed = -1;
  return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (fakeCuda.pushed < 0) return 201;  // no context
  *free = fakeCuda.free[fakeCuda.pushed];
  *total = fakeCuda.total[fakeCuda.pushed];
  return 0;
}

}  // extern "C"
