//Numpy array shape [4]
//Min -1.843750000000
//Max -0.093750000000
//Number of zeros 0

#ifndef l1kd_conv_vcab00548_B3_H_
#define l1kd_conv_vcab00548_B3_H_

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

conv1_bias_t b3[4] = {-1.59375, -0.09375, -1.84375, -1.71875};

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif


#endif
