#ifndef l1kd_conv_vcab00548_DEFINES_H_
#define l1kd_conv_vcab00548_DEFINES_H_
#include "library.h"
typedef ap_ufixed<10,10,AP_RND_CONV,AP_SAT,0> events_t;
typedef ap_fixed<18,12> conv1_accum_t;
typedef ap_fixed<18,12> conv1_t;
typedef ap_fixed<8,2> conv1_weight_t;
typedef ap_fixed<7,2> conv1_bias_t;
typedef ap_ufixed<10,6,AP_RND_CONV,AP_SAT,0> layer5_t;
typedef ap_fixed<18,8> conv1_relu_table_t;
typedef ap_fixed<23,13> dense1_accum_t;
typedef ap_fixed<23,13> dense1_t;
typedef ap_fixed<7,1> dense1_weight_t;
typedef ap_fixed<8,3> dense1_bias_t;
typedef ap_uint<1> layer7_index;
typedef ap_ufixed<10,6,AP_RND_CONV,AP_SAT,0> layer9_t;
typedef ap_fixed<18,8> dense1_relu_table_t;
typedef ap_ufixed<17,9> output_accum_t;
typedef ap_ufixed<17,9> output_t;
typedef ap_fixed<5,1> output_weight_t;
typedef ap_ufixed<14,6> output_bias_t;
typedef ap_uint<1> layer10_index;
typedef ap_ufixed<16,8,AP_RND_CONV,AP_SAT,0> result_t;
typedef ap_fixed<18,8> score_table_t;
#endif
