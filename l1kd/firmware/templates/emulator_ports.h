// The ports of @NAME@, version @VERSION@. Written by l1kd.
#ifndef @NAMESPACE@_EMULATOR_H_
#define @NAMESPACE@_EMULATOR_H_

#include "ap_fixed.h"
#include "ap_int.h"

namespace @NAMESPACE@ {
namespace emulator {

typedef @INPUT@ input_t;
typedef @OUTPUT@ result_t;
const int inputs = @INPUTS@; // an event in row-major order
const int outputs = @OUTPUTS@;

} // namespace emulator
} // namespace @NAMESPACE@

#endif
