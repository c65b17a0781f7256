// Stands in for libnvidia-ml.so.1: what it answers is read, at every call, from the text file that
// $FSEARCH_TEST_NVML names, so that a test changes it while a process runs. One word and its values a line:
//
//   init_error N          what nvmlInit gives
//   error N               what every question about a GPU gives
//   unsupported 1         utilisation, power, temperature and energy are not supported
//   gpu UUID              begins a GPU; what follows is about it
//   name TEXT, capability MAJOR MINOR, total_mib N, used_mib N, utilisation PERCENT, power_w N, temperature_c N
//   process PID MIB       as often as there are processes
//
// The energy counter is the power times the machine's monotonic clock.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { kOk = 0, kNotSupported = 3, kNotFound = 6, kInsufficientSize = 7, kUnknown = 999, kMost = 8 };

typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } Process;
typedef struct {
  char uuid[96], name[96];
  int major, minor, processes;
  double total_mib, used_mib, utilisation, power_w, temperature_c;
  Process process[kMost];
} Gpu;
typedef struct { int init_error, error, unsupported, gpus; Gpu gpu[kMost]; } Answers;

static Answers read_answers(void) {
  Answers all = {0};
  FILE* file = fopen(getenv("FSEARCH_TEST_NVML"), "r");
  if (!file) { all.init_error = all.error = kUnknown; return all; }
  char line[256], word[32], rest[192];
  while (fgets(line, sizeof line, file)) {
    rest[0] = 0;
    if (sscanf(line, "%31s %191[^\n]", word, rest) < 1) continue;
    Gpu* gpu = &all.gpu[all.gpus > 0 ? all.gpus - 1 : 0];
    if (!strcmp(word, "init_error")) all.init_error = atoi(rest);
    else if (!strcmp(word, "error")) all.error = atoi(rest);
    else if (!strcmp(word, "unsupported")) all.unsupported = atoi(rest);
    else if (!strcmp(word, "gpu")) snprintf(all.gpu[all.gpus++].uuid, 96, "%s", rest);
    else if (!strcmp(word, "name")) snprintf(gpu->name, 96, "%s", rest);
    else if (!strcmp(word, "capability")) sscanf(rest, "%d %d", &gpu->major, &gpu->minor);
    else if (!strcmp(word, "total_mib")) gpu->total_mib = atof(rest);
    else if (!strcmp(word, "used_mib")) gpu->used_mib = atof(rest);
    else if (!strcmp(word, "utilisation")) gpu->utilisation = atof(rest);
    else if (!strcmp(word, "power_w")) gpu->power_w = atof(rest);
    else if (!strcmp(word, "temperature_c")) gpu->temperature_c = atof(rest);
    else if (!strcmp(word, "process")) {
      double mib = 0;
      Process* process = &gpu->process[gpu->processes++];
      sscanf(rest, "%u %lf", &process->pid, &mib);
      process->bytes = (unsigned long long)(mib * (1 << 20));
    }
  }
  fclose(file);
  return all;
}

// A handle is the number of a GPU, from 1 on.
#define ASK(optional)                                                    \
  const Answers all = read_answers();                                    \
  if (all.error) return all.error;                                       \
  if ((optional) && all.unsupported) return kNotSupported;               \
  if ((long)handle < 1 || (long)handle > all.gpus) return kNotFound;     \
  const Gpu gpu = all.gpu[(long)handle - 1];                             \
  (void)gpu

int nvmlInitWithFlags(unsigned flags) { (void)flags; return read_answers().init_error; }
int nvmlShutdown(void) { return kOk; }
const char* nvmlErrorString(int error) { return error == kUnknown ? "Unknown Error" : "Some Error"; }

int nvmlSystemGetDriverVersion(char* text, unsigned size) { snprintf(text, size, "570.86.15"); return kOk; }
int nvmlSystemGetCudaDriverVersion_v2(int* version) { *version = 12080; return kOk; }

int nvmlDeviceGetCount_v2(unsigned* count) {
  const Answers all = read_answers();
  *count = all.gpus;
  return all.error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = (void*)((long)index + 1);
  return kOk;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
  const Answers all = read_answers();
  if (all.error) return all.error;
  for (long i = 0; i < all.gpus; ++i)
    if (!strcmp(all.gpu[i].uuid, uuid)) { *handle = (void*)(i + 1); return kOk; }
  return kNotFound;
}

int nvmlDeviceGetUUID(void* handle, char* text, unsigned size) { ASK(0); snprintf(text, size, "%s", gpu.uuid); return kOk; }
int nvmlDeviceGetName(void* handle, char* text, unsigned size) { ASK(0); snprintf(text, size, "%s", gpu.name); return kOk; }

int nvmlDeviceGetCudaComputeCapability(void* handle, int* major, int* minor) {
  ASK(0);
  *major = gpu.major, *minor = gpu.minor;
  return kOk;
}

int nvmlDeviceGetMemoryInfo(void* handle, unsigned long long* total_free_used) {
  ASK(0);
  total_free_used[0] = (unsigned long long)(gpu.total_mib * (1 << 20));
  total_free_used[2] = (unsigned long long)(gpu.used_mib * (1 << 20));
  total_free_used[1] = total_free_used[0] - total_free_used[2];
  return kOk;
}

int nvmlDeviceGetUtilizationRates(void* handle, unsigned* gpu_memory) {
  ASK(1);
  gpu_memory[0] = gpu.utilisation, gpu_memory[1] = 0;
  return kOk;
}

int nvmlDeviceGetPowerUsage(void* handle, unsigned* mw) { ASK(1); *mw = gpu.power_w * 1000; return kOk; }
int nvmlDeviceGetTemperature(void* handle, int sensor, unsigned* c) { ASK(1); (void)sensor; *c = gpu.temperature_c; return kOk; }

int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* mj) {
  ASK(1);
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *mj = (unsigned long long)(gpu.power_w * (now.tv_sec * 1e3 + now.tv_nsec / 1e6));
  return kOk;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void* handle, unsigned* count, Process* processes) {
  ASK(0);
  const int room = processes ? (int)*count : 0;
  *count = gpu.processes;
  if (gpu.processes > room) return kInsufficientSize;
  for (int i = 0; i < gpu.processes; ++i) processes[i] = gpu.process[i];
  return kOk;
}
