//Numpy array shape [16, 1]
//Min -0.250000000000
//Max 0.625000000000
//Number of zeros 3

#ifndef l1kd_conv_vcab00548_W10_H_
#define l1kd_conv_vcab00548_W10_H_

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

output_weight_t w10[16] = {0.4375, -0.0625, 0.6250, 0.3125, -0.1875, -0.2500, 0.4375, 0.3750, -0.0625, 0.6250, 0.5625, 0.0000, 0.0000, 0.4375, 0.4375, 0.0000};

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif


#endif
