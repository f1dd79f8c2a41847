// hls4ml's Python bridge to @TOP@: build_lib.sh builds it, hls4ml loads it. Written by l1kd.
#include "firmware/@TOP@.h"
#include "firmware/nnet_utils/nnet_helpers.h"

#include <map>
#include <string>

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

extern "C" {

@BRIDGE_FLOAT@

@BRIDGE_DOUBLE@

}
