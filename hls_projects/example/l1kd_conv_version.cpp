// l1kd_conv in its version namespace, in place of firmware/l1kd_conv.cpp. Written by l1kd.
#include "firmware/library.h"

namespace l1kd_conv_vcab00548 {
#include "firmware/l1kd_conv.cpp"
} // namespace l1kd_conv_vcab00548
