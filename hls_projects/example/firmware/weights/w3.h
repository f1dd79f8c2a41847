//Numpy array shape [2, 2, 1, 4]
//Min -1.093750000000
//Max 0.656250000000
//Number of zeros 0

#ifndef l1kd_conv_vcab00548_W3_H_
#define l1kd_conv_vcab00548_W3_H_

#ifndef L1KD_GLOBAL
namespace l1kd_conv_vcab00548 {
#endif

conv1_weight_t w3[16] = {0.187500, 0.125000, 0.156250, -1.093750, 0.218750, 0.421875, -0.484375, 0.281250, -0.171875, -0.015625, 0.312500, -0.234375, -0.156250, 0.359375, 0.125000, 0.656250};

#ifndef L1KD_GLOBAL
} // namespace l1kd_conv_vcab00548
#endif


#endif
