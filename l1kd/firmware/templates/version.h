// @TOP@ in its version namespace: one program may include and link several versions. Written by l1kd.
#ifndef @NAMESPACE@_VERSION_H_
#define @NAMESPACE@_VERSION_H_

#include "firmware/library.h"

namespace @NAMESPACE@ {
#include "firmware/@TOP@.h"
#include "firmware/ports.h"
} // namespace @NAMESPACE@

#endif
