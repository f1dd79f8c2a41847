//Numpy array shape [4]
//Min -1.843750000000
//Max -0.093750000000
//Number of zeros 0

#ifndef B3_H_
#define B3_H_

conv1_bias_t b3[4] = {-1.59375, -0.09375, -1.84375, -1.71875};


#endif
