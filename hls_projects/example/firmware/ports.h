#ifndef l1kd_conv_vcab00548_PORTS_H_
#define l1kd_conv_vcab00548_PORTS_H_
#include "defines.h"
template<class T> struct port_bits;
template<int W> struct port_bits<ap_int<W> > {
    static const int word = W, integer = W;
    static const bool is_signed = true;
};
template<int W> struct port_bits<ap_uint<W> > {
    static const int word = W, integer = W;
    static const bool is_signed = false;
};
template<int W, int I, ap_q_mode Q, ap_o_mode O, int N> struct port_bits<ap_fixed<W, I, Q, O, N> > {
    static const int word = W, integer = I;
    static const bool is_signed = true;
};
template<int W, int I, ap_q_mode Q, ap_o_mode O, int N> struct port_bits<ap_ufixed<W, I, Q, O, N> > {
    static const int word = W, integer = I;
    static const bool is_signed = false;
};
template<class T, unsigned N> struct port_bits<nnet::array<T, N> > : port_bits<T> {};
static_assert(port_bits<events_t>::word == 10, "the input port is ap_ufixed<10,10,AP_RND_CONV,AP_SAT>");
static_assert(port_bits<events_t>::integer == 10, "the input port is ap_ufixed<10,10,AP_RND_CONV,AP_SAT>");
static_assert(port_bits<events_t>::is_signed == false, "the input port is ap_ufixed<10,10,AP_RND_CONV,AP_SAT>");
static_assert(port_bits<result_t>::word == 16, "the output port is ap_ufixed<16,8,AP_RND_CONV,AP_SAT>");
static_assert(port_bits<result_t>::integer == 8, "the output port is ap_ufixed<16,8,AP_RND_CONV,AP_SAT>");
static_assert(port_bits<result_t>::is_signed == false, "the output port is ap_ufixed<16,8,AP_RND_CONV,AP_SAT>");
#endif
