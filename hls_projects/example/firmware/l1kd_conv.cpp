#include <iostream>

#include "l1kd_conv.h"
#include "parameters.h"
#include "ports.h"

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

void l1kd_conv(
    events_t events[18*14*1],
    result_t layer12_out[1]
) {

    // hls-fpga-machine-learning insert IO
    #pragma HLS ARRAY_RESHAPE variable=events complete dim=0
    #pragma HLS ARRAY_PARTITION variable=layer12_out complete dim=0
    #pragma HLS INTERFACE ap_vld port=events,layer12_out 
    #pragma HLS PIPELINE

    // hls-fpga-machine-learning insert load weights

    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning insert layers

    conv1_t layer3_out[9*7*4];
    #pragma HLS ARRAY_PARTITION variable=layer3_out complete dim=0

    layer5_t layer5_out[9*7*4];
    #pragma HLS ARRAY_PARTITION variable=layer5_out complete dim=0

    auto& layer6_out = layer5_out;
    dense1_t layer7_out[16];
    #pragma HLS ARRAY_PARTITION variable=layer7_out complete dim=0

    layer9_t layer9_out[16];
    #pragma HLS ARRAY_PARTITION variable=layer9_out complete dim=0

    output_t layer10_out[1];
    #pragma HLS ARRAY_PARTITION variable=layer10_out complete dim=0

    nnet::conv_2d_cl<events_t, conv1_t, config3>(events, layer3_out, w3, b3); // conv1
#ifndef __SYNTHESIS__
    nnet::save_layer_output<conv1_t>(layer3_out, "conv1", 9*7*4);
#endif

    nnet::relu<conv1_t, layer5_t, relu_config5>(layer3_out, layer5_out); // conv1_relu
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer5_t>(layer5_out, "conv1_relu", 9*7*4);
#endif

    nnet::dense<layer5_t, dense1_t, config7>(layer6_out, layer7_out, w7, b7); // dense1
#ifndef __SYNTHESIS__
    nnet::save_layer_output<dense1_t>(layer7_out, "dense1", 16);
#endif

    nnet::relu<dense1_t, layer9_t, relu_config9>(layer7_out, layer9_out); // dense1_relu
#ifndef __SYNTHESIS__
    nnet::save_layer_output<layer9_t>(layer9_out, "dense1_relu", 16);
#endif

    nnet::dense<layer9_t, output_t, config10>(layer9_out, layer10_out, w10, b10); // output
#ifndef __SYNTHESIS__
    nnet::save_layer_output<output_t>(layer10_out, "output", 1);
#endif

    nnet::relu<output_t, result_t, relu_config12>(layer10_out, layer12_out); // score
#ifndef __SYNTHESIS__
    nnet::save_layer_output<result_t>(layer12_out, "score", 1);
#endif

}

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif
