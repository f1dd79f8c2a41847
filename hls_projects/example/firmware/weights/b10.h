#ifndef l1kd_conv_vcab00548_B10_H_
#define l1kd_conv_vcab00548_B10_H_
output_bias_t b10[1] = {60.78515625};
#endif
