// @NAME@, version @VERSION@, behind the interface of trigger emulators. Written by l1kd.
//
// Numbers enter and leave as the raw bits of their ports, so that nothing is rounded on the way.

#include "@TOP@_version.h"

#include "emulator.h"
#include "@HEADER@"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace nnet {
bool trace_enabled = false;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

namespace @NAMESPACE@ {
namespace emulator {

typedef @NAMESPACE@::@INPUT_T@ events; // the network's own, in io_stream a pack
typedef @NAMESPACE@::@OUTPUT_T@ scores;

template <class A, class B> struct same_port {
    static const bool value = port_bits<A>::word == port_bits<B>::word &&
                              port_bits<A>::integer == port_bits<B>::integer &&
                              port_bits<A>::is_signed == port_bits<B>::is_signed;
};
static_assert(same_port<input_t, events>::value, "the header's input is the network's");
static_assert(same_port<result_t, scores>::value, "the header's output is the network's");

template <class T> void set(T &port, int64_t bits) { port.range(T::width - 1, 0) = bits; }

template <class T> int64_t get(T &port) {
    const uint64_t bits = port.range(T::width - 1, 0).to_uint64();
    const int spare = 64 - T::width;
    return port_bits<T>::is_signed ? int64_t(bits << spare) >> spare : int64_t(bits);
}

class Emulator : public hls4mlEmulator::Model {
  public:
    void prepare_input(std::any event) override {
        if (!fill<input_t>(event) && !fill<plain_input>(event) && !fill<integer_input>(event))
            throw std::invalid_argument("@NAMESPACE@ reads a pointer to an array of @INPUTS@ @INPUT@");
    }

    void predict() override { compute(); }

    void read_result(std::any result) override {
        if (!give<result_t>(result) && !give<plain_result>(result) && !give<integer_result>(result))
            throw std::invalid_argument("@NAMESPACE@ writes to a pointer to an array of @OUTPUTS@ @OUTPUT@");
    }

  private:
    int64_t in[inputs] = {}, out[outputs] = {};

    // The same bits under the names that clients use for them: without rounding modes, as integers.
    typedef @INPUT_PLAIN@ plain_input;
    typedef @INPUT_INTEGER@ integer_input;
    typedef @OUTPUT_PLAIN@ plain_result;
    typedef @OUTPUT_INTEGER@ integer_result;

    template <class T> bool fill(const std::any &event) {
        T *const *own = std::any_cast<T *>(&event);
        const T *const *other = std::any_cast<const T *>(&event);
        const T *values = own ? *own : other ? *other : NULL;
        if (values == NULL)
            return false;
        for (int i = 0; i < inputs; i++) {
            T value = values[i];
            in[i] = get(value);
        }
        return true;
    }

    template <class T> bool give(const std::any &result) {
        T *const *values = std::any_cast<T *>(&result);
        if (values == NULL || *values == NULL)
            return false;
        for (int i = 0; i < outputs; i++)
            set((*values)[i], out[i]);
        return true;
    }

@COMPUTE@
};

} // namespace emulator
} // namespace @NAMESPACE@

EXPORTED hls4mlEmulator::Model *create_model() { return new @NAMESPACE@::emulator::Emulator; }

EXPORTED void destroy_model(hls4mlEmulator::Model *model) { delete model; }

// What l1kd itself calls: counts of the ports' LSB in and out, 0 if all went well.
EXPORTED const char *l1kd_version() { return "@NAMESPACE@"; }

EXPORTED int l1kd_predict(const int64_t *in, int64_t *out, size_t count) {
    using namespace @NAMESPACE@::emulator;
    try {
        const std::unique_ptr<hls4mlEmulator::Model, void (*)(hls4mlEmulator::Model *)> model(create_model(),
                                                                                              destroy_model);
        for (size_t event = 0; event < count; event++) {
            input_t x[inputs];
            result_t y[outputs];
            for (int i = 0; i < inputs; i++)
                set(x[i], in[event * inputs + i]);
            model->prepare_input(static_cast<input_t *>(x));
            model->predict();
            model->read_result(static_cast<result_t *>(y));
            for (int i = 0; i < outputs; i++)
                out[event * outputs + i] = get(y[i]);
        }
        return 0;
    } catch (...) {
        return 1;
    }
}
