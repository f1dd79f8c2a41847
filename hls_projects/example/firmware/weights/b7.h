//Numpy array shape [16]
//Min -2.281250000000
//Max -0.031250000000
//Number of zeros 0

#ifndef l1kd_conv_vcab00548_B7_H_
#define l1kd_conv_vcab00548_B7_H_

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

dense1_bias_t b7[16] = {-2.06250, -0.06250, -1.40625, -1.90625, -0.03125, -0.06250, -2.06250, -2.28125, -0.06250, -1.18750, -1.34375, -0.03125, -0.03125, -2.21875, -2.06250, -0.06250};

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif


#endif
