void @TOP@_@REAL@(@REAL@ *events, @REAL@ *scores) {
    hls::stream<@INPUT_T@> x("x");
    hls::stream<@OUTPUT_T@> y("y");
    nnet::convert_data<@REAL@, @INPUT_T@, @INPUTS@>(events, x);
    @TOP@(x, y);
    nnet::convert_data<@OUTPUT_T@, @REAL@, @OUTPUTS@>(y, scores);
}
