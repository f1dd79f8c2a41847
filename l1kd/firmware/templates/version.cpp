// @TOP@ in its version namespace, in place of firmware/@TOP@.cpp. Written by l1kd.
#include "firmware/library.h"

namespace @NAMESPACE@ {
#include "firmware/@TOP@.cpp"
} // namespace @NAMESPACE@
