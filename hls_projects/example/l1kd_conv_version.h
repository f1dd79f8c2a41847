// l1kd_conv in its version namespace: one program may include and link several versions. Written by l1kd.
#ifndef l1kd_conv_vcab00548_VERSION_H_
#define l1kd_conv_vcab00548_VERSION_H_

#include "firmware/library.h"

namespace l1kd_conv_vcab00548 {
#include "firmware/l1kd_conv.h"
#include "firmware/ports.h"
} // namespace l1kd_conv_vcab00548

#endif
