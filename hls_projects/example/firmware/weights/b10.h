//Numpy array shape [1]
//Min 60.785156250000
//Max 60.785156250000
//Number of zeros 0

#ifndef l1kd_conv_vcab00548_B10_H_
#define l1kd_conv_vcab00548_B10_H_

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

output_bias_t b10[1] = {60.78515625};

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif


#endif
