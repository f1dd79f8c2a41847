#include "l1kd_conv.h"
#include "parameters.h"
#include "ports.h"
void l1kd_conv(events_t events[252], result_t layer12_out[1]) {
    #pragma HLS ARRAY_RESHAPE variable=events complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer12_out complete dim=0
    #pragma HLS INTERFACE ap_vld port=events,layer12_out
    #pragma HLS PIPELINE
    conv1_t layer3_out[252];
    #pragma HLS ARRAY_PARTITION variable=layer3_out complete dim=0
    layer5_t layer5_out[252];
    #pragma HLS ARRAY_PARTITION variable=layer5_out complete dim=0
    auto& layer6_out = layer5_out;
    dense1_t layer7_out[16];
    #pragma HLS ARRAY_PARTITION variable=layer7_out complete dim=0
    layer9_t layer9_out[16];
    #pragma HLS ARRAY_PARTITION variable=layer9_out complete dim=0
    output_t layer10_out[1];
    #pragma HLS ARRAY_PARTITION variable=layer10_out complete dim=0
    nnet::conv_2d_cl<events_t, conv1_t, config3>(events, layer3_out, w3, b3);
    nnet::relu<conv1_t, layer5_t, relu_config5>(layer3_out, layer5_out);
    nnet::dense<layer5_t, dense1_t, config7>(layer6_out, layer7_out, w7, b7);
    nnet::relu<dense1_t, layer9_t, relu_config9>(layer7_out, layer9_out);
    nnet::dense<layer9_t, output_t, config10>(layer9_out, layer10_out, w10, b10);
    nnet::relu<output_t, result_t, relu_config12>(layer10_out, layer12_out);
}
