#ifndef l1kd_conv_vcab00548_B3_H_
#define l1kd_conv_vcab00548_B3_H_
conv1_bias_t b3[4] = {-1.59375, -0.09375, -1.84375, -1.71875};
#endif
