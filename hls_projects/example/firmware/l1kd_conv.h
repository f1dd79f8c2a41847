#ifndef l1kd_conv_vcab00548_L1KD_CONV_H_
#define l1kd_conv_vcab00548_L1KD_CONV_H_
#include "defines.h"
void l1kd_conv(events_t events[252], result_t layer12_out[1]);
#endif
