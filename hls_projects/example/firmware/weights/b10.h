//Numpy array shape [1]
//Min 60.785156250000
//Max 60.785156250000
//Number of zeros 0

#ifndef B10_H_
#define B10_H_

output_bias_t b10[1] = {60.78515625};


#endif
