void @TOP@_@REAL@(@REAL@ *events, @REAL@ *scores) {
    static @INPUT_T@ x[@INPUTS@];
    static @OUTPUT_T@ y[@OUTPUTS@];
    nnet::convert_data<@REAL@, @INPUT_T@, @INPUTS@>(events, x);
    @TOP@(x, y);
    nnet::convert_data<@OUTPUT_T@, @REAL@, @OUTPUTS@>(y, scores);
}
