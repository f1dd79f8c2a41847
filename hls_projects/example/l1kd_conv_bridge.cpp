// hls4ml's Python bridge to l1kd_conv: build_lib.sh builds it, hls4ml loads it. Written by l1kd.
#include "firmware/l1kd_conv.h"
#include "firmware/nnet_utils/nnet_helpers.h"

#include <map>
#include <string>

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

extern "C" {

void l1kd_conv_float(float *events, float *scores) {
    static events_t x[252];
    static result_t y[1];
    nnet::convert_data<float, events_t, 252>(events, x);
    l1kd_conv(x, y);
    nnet::convert_data<result_t, float, 1>(y, scores);
}

void l1kd_conv_double(double *events, double *scores) {
    static events_t x[252];
    static result_t y[1];
    nnet::convert_data<double, events_t, 252>(events, x);
    l1kd_conv(x, y);
    nnet::convert_data<result_t, double, 1>(y, scores);
}

}
