#ifndef l1kd_conv_vcab00548_L1KD_CONV_H_
#define l1kd_conv_vcab00548_L1KD_CONV_H_

#include "ap_fixed.h"
#include "ap_int.h"
#include "hls_stream.h"

#include "defines.h"

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

// Prototype of top level function for C-synthesis
void l1kd_conv(
    events_t events[18*14*1],
    result_t layer12_out[1]
);

// hls-fpga-machine-learning insert emulator-defines

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif

#endif
